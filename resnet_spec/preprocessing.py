"""A photograph to what a network expects: resized, cropped, normalised as its spec says."""

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
    """A file that holds no image, or a network that says nothing of how to prepare one."""


def prepare(path: str | PathLike[str], network: Network) -> Array:
    """An image file as (1, channels, height, width), float32.

    The shorter side is resized (bilinear) to the spec's ``resize``, the centre cropped to the network's input, pixels scaled to
    0..1, the mean taken off and the rest divided by the standard deviation. Raises ImageError.
    """
    wanted = network.preprocess
    if wanted is None:
        raise ImageError(f"the spec of {network.name} has no preprocess: resize, mean and std")
    channels, height, width = network.input
    if channels not in (1, 3) or len(wanted.mean) != channels or len(wanted.std) != channels:
        raise ImageError(f"{network.name} takes {channels} channels, which a photograph can't give by its preprocess")
    image = _decoded(Path(path)).convert("RGB" if channels == 3 else "L")
    scale = wanted.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, np.float32).reshape(height, width, channels) / 255
    normal = (pixels - np.array(wanted.mean, np.float32)) / np.array(wanted.std, np.float32)
    return normal.transpose(2, 0, 1)[None]


def _decoded(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"no image file named {str(path)!r}")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that Pillow knows") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} can't be decoded: {error}") from None


def likeliest(logits: Array, top: int) -> list[tuple[int, float]]:
    """The classes with the largest logits (classes,): number and probability, likeliest first."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = odds / odds.sum()
    return [(int(index), float(probabilities[index])) for index in np.argsort(-logits, kind="stable")[:top]]


def side_by_side(found: dict[str, list[tuple[int, float]]]) -> Table:
    """The likeliest classes by backend, a column each."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right", no_wrap=True)
    for place, row in enumerate(zip(*found.values(), strict=True), start=1):
        table.add_row(str(place), *(f"class {index}  {100 * probability:.4f} %" for index, probability in row))
    return table
