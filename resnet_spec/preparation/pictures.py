"""Read pictures (files, Pillow's images, NumPy arrays) as upright images of 8 bits, with notes on what was changed."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from resnet_spec.weights.canonical import Array

Picture: TypeAlias = "str | PathLike[str] | Image.Image | Array"
"""The path of an image file, an image of Pillow, or an array (height, width) or (height, width, channels)."""

Mode: TypeAlias = Literal["RGB", "L"]

_ARRAY_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's modes by an array's number of channels."""

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


class ImageError(ValueError):
    """A file that is not an image, or one that cannot be prepared for a network."""


def read_picture(picture: Picture, mode: Mode) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a picture as an upright image of 8 bits in colour ("RGB") or grey ("L"), and notes on what was changed.

    The image is turned as its EXIF orientation says. Numbers of 16 bits are scaled to 8, and transparency is ignored.

    Raises:
        ImageError: It is no image, or its pixels have no known range.
        FileNotFoundError: There is no such file.
    """
    if isinstance(picture, np.ndarray):
        return _convert(*_from_array(picture), mode)
    if isinstance(picture, Image.Image):
        return _from_image(picture, mode, str(getattr(picture, "filename", "")) or "the image")
    if not isinstance(picture, str | PathLike):
        raise TypeError(f"a picture is a path, an image of Pillow or a NumPy array, not {type(picture).__name__}")
    path = Path(picture)
    if not path.is_file():
        raise FileNotFoundError(f"no image file named {str(path)!r}")
    try:
        with Image.open(path) as image:
            return _from_image(image, mode, str(path))
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image in a format that Pillow reads") from None
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ImageError(f"{path} cannot be decoded: {error}") from None


def _from_image(image: Image.Image, mode: Mode, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    notes: list[str] = []
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        upright = ImageOps.exif_transpose(image)
        if orientation in range(2, 9):
            notes.append(f"turned as its EXIF orientation {orientation} says")
        return _convert(_scale_to_8_bits(upright, image.format, notes), notes, mode)
    except ImageError:
        raise
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} cannot be decoded: {error}") from None


def _from_array(array: Array) -> tuple[Image.Image, list[str]]:
    """Return an array as an image of 8 bits, and notes. Raises ImageError."""
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"an array of {array.dtype} does not say what white is; pictures are uint8 or uint16")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in _ARRAY_MODES or not array.size:
        hint = "; transpose(1, 2, 0) moves the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ImageError(f"a picture is (height, width) or (height, width, channels), not {array.shape}{hint}")
    notes = []
    if array.dtype == np.uint16:
        array = _divide_by_257(array)
        notes.append("its 16 bits scaled to 8")
    pixels = np.ascontiguousarray(array[:, :, 0] if channels == 1 and array.ndim == 3 else array)
    return Image.fromarray(pixels), notes


def _divide_by_257(array: Array) -> Array:
    return np.round(array / 257).astype(np.uint8)


def _scale_to_8_bits(image: Image.Image, file_format: str | None, notes: list[str]) -> Image.Image:
    """Return a grey image of 16 bits in 8 bits, where Pillow's own conversion clips, and others as they are.

    Raises ValueError for numbers of which the file does not say what white is.
    """
    wide = image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM"))
    if wide:
        notes.append("its 16 bits scaled to 8")
        return Image.fromarray(_divide_by_257(np.asarray(image)))
    if image.mode not in ("I", "F"):
        return image
    pixels = np.asarray(image)
    if pixels.min() >= 0 and 1 < pixels.max() <= 255:  # NaN fails this too
        return image.convert("L")
    raise ValueError(
        f"its pixels range from {pixels.min():g} to {pixels.max():g}, and it does not say what white is; "
        "save it with 8 or 16 bits in each channel"
    )


def _convert(image: Image.Image, notes: list[str], mode: Mode) -> tuple[Image.Image, tuple[str, ...]]:
    """Return an image in a mode, without transparency, and the notes with what the conversion changed."""
    is_transparent = image.mode in _ALPHA_MODES or "transparency" in image.info
    if is_transparent:
        notes.append("its transparency ignored")
        image = image.convert("RGBA")  # which keeps the colours of transparent pixels
    elif image.mode not in (mode, "P"):
        notes.append(f"converted from {image.mode} to {mode}")
    return image.convert(mode), tuple(notes)
