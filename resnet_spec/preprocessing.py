"""Prepare image files as the input of a network, and list the classes that it predicts."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array

_BILINEAR = Image.Resampling.BILINEAR
_MAX_PIXELS = 100_000_000
"""The largest image that is made by resizing. Pillow reads images of about as many pixels."""


class ImageError(ValueError):
    """A file that is not an image, or a network that does not define how to preprocess one."""


def prepare(path: str | PathLike[str], network: Network) -> Array:
    """Read an image file as an array of shape (1, channels, height, width) in float32, preprocessed for a network.

    The image is turned as its EXIF orientation says, and resized (bilinear) so that its shorter side is the spec's
    ``preprocess.resize``. It is then cropped at the centre to the network's input, scaled to the range from 0 to 1, and
    normalised by the spec's mean and standard deviation. Sizes and offsets are those of torchvision's ``Resize`` and
    ``CenterCrop``. Grey images of 16 bits are scaled to 8, and transparency is ignored.

    Raises:
        ImageError: The file is not an image, its pixels have no known range, or the spec does not define how to
            preprocess one.
        FileNotFoundError: There is no such file.
    """
    preprocess = network.preprocess
    if preprocess is None:
        raise ImageError(f"the spec of {network.name} has no preprocess, which sets resize, mean and std")
    channels, height, width = network.input
    if channels not in (1, 3) or len(preprocess.mean) != channels or len(preprocess.std) != channels:
        raise ImageError(
            f"{network.name} has {channels} input channels; an image needs 1 or 3, with one mean and one std each"
        )
    image = _decode(Path(path)).convert("RGB" if channels == 3 else "L")
    image = _crop(_resize(image, preprocess.resize, str(path)), width, height)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels) / 255
    normalised = (pixels - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return normalised.transpose(2, 0, 1)[None]


def _decode(path: Path) -> Image.Image:
    """Return an upright image whose pixels have 8 bits in each channel."""
    if not path.is_file():
        raise FileNotFoundError(f"no image file named {str(path)!r}")
    try:
        with Image.open(path) as image:
            return _scale_to_8_bits(ImageOps.exif_transpose(image), image.format)
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image in a format that Pillow reads") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} cannot be decoded: {error}") from None


def _scale_to_8_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """Return a grey image of 16 bits in 8 bits, where Pillow's own conversion clips, and others as they are.

    Raises ValueError for numbers of which the file does not say what white is.
    """
    wide = image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM"))
    if wide:
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode not in ("I", "F"):
        return image
    pixels = np.asarray(image)
    if pixels.min() >= 0 and 1 < pixels.max() <= 255:  # NaN fails this too
        return image.convert("L")
    raise ValueError(
        f"its pixels range from {pixels.min():g} to {pixels.max():g}, and it does not say what white is; "
        "save it with 8 or 16 bits in each channel"
    )


def _resize(image: Image.Image, shorter: int, name: str) -> Image.Image:
    """Resize an image so that its shorter side has ``shorter`` pixels; the other one is truncated, as in torchvision.

    >>> _resize(Image.new("L", (640, 427)), 256, "a.png").size
    (383, 256)
    """
    longer = int(shorter * max(image.size) / min(image.size))
    if shorter * longer > _MAX_PIXELS:
        raise ImageError(f"{name} is {image.width} x {image.height}: too long to resize its shorter side to {shorter}")
    return image.resize((shorter, longer) if image.width < image.height else (longer, shorter), _BILINEAR)


def _crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """Crop an image at its centre; what lies outside of a smaller image is black."""
    left, top = _crop_offset(image.width, width), _crop_offset(image.height, height)
    return image.crop((left, top, left + width, top + height))


def _crop_offset(available: int, wanted: int) -> int:
    """Return where a crop starts. torchvision rounds half to even, and pads the smaller half first."""
    return round((available - wanted) / 2) if available >= wanted else -((wanted - available) // 2)


def top_classes(logits: Array, count: int) -> list[tuple[int, float]]:
    """Return the classes with the largest of the logits (classes,): index and probability, in descending order."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = odds / odds.sum()
    return [(int(index), float(probabilities[index])) for index in np.argsort(-logits, kind="stable")[:count]]


def tabulate_classes(classes: dict[str, list[tuple[int, float]]]) -> Table:
    """Return a table of the top classes, with a column for each backend."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for name in classes:
        table.add_column(name, justify="right", no_wrap=True)
    for rank, row in enumerate(zip(*classes.values(), strict=True), start=1):
        table.add_row(str(rank), *(f"class {index}  {100 * probability:.4f} %" for index, probability in row))
    return table
