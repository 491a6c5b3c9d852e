"""Prepare image files as the input of a network, and list the classes that it predicts."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array


class ImageError(ValueError):
    """A file that is not an image, or a network that does not define how to preprocess one."""


def prepare(path: str | PathLike[str], network: Network) -> Array:
    """Read an image file as an array of shape (1, channels, height, width) in float32, preprocessed for a network.

    The image is resized (bilinear) so that its shorter side is the spec's ``preprocess.resize``, cropped at the centre
    to the network's input, scaled to the range from 0 to 1, and normalised by the spec's mean and standard deviation.

    Raises:
        ImageError: The file is not an image, or the spec does not define how to preprocess one.
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
    scale = preprocess.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, np.float32).reshape(height, width, channels) / 255
    normalised = (pixels - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return normalised.transpose(2, 0, 1)[None]


def _decode(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"no image file named {str(path)!r}")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image in a format that Pillow reads") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} cannot be decoded: {error}") from None


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
