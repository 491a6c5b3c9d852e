"""Prepare pictures as the input of a network, pixel for pixel as the library does that trained its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from PIL import Image

from resnet_spec.library.published import PublishedWeights
from resnet_spec.network.network import Network
from resnet_spec.preparation import cv2_resize
from resnet_spec.preparation.pictures import ImageError, Mode, Picture, read_picture
from resnet_spec.weights.canonical import Array

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic"]
CropMode: TypeAlias = Literal["center", "squash", "border"]

_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_MAX_PIXELS = 100_000_000
"""The largest image that is made by resizing. Pillow reads images of about as many pixels."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to a picture before a network reads it; call it with pictures, and print it to see its numbers.

    Attributes:
        channels: 3 for colour, 1 for grey.
        size: Height and width of the network's input.
        resize: The shorter side before the crop in pixels, or height and width.
        crop_mode: "center" resizes so that the shorter side fits ``resize``, and crops at the centre; "squash" resizes
            both sides, without regard to their ratio; "border" resizes so that the longer side fits, and adds borders
            of the mean colour.
        interpolation: "nearest", "bilinear" or "bicubic".
        antialias: Whether shrinking averages over all pixels, as Pillow does; without, four pixels count, as in OpenCV.
        mean: Subtracted from each channel, after pixels are scaled to ``range``.
        std: Divides each channel thereafter.
        range: What black and white become.
        channel_order: "rgb" or "bgr".
        convention: Whose rules for rounding sizes and offsets are followed.
    """

    channels: int
    size: tuple[int, int]
    resize: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    range: tuple[int, int] = (0, 1)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    convention: Literal["torchvision", "paddleclas"] = "torchvision"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or {len(self.mean), len(self.std)} != {self.channels}:
            raise ImageError(
                f"the network has {self.channels} input channels; "
                "a picture needs 1 or 3, with one mean and one std each"
            )
        if self.interpolation not in get_args(Interpolation) or self.crop_mode not in get_args(CropMode):
            raise ImageError(f"pictures are not prepared by {self.interpolation} and {self.crop_mode}")
        if not self.antialias and self.interpolation == "bicubic":
            raise ImageError("pictures are resized without antialiasing by bilinear interpolation alone, not bicubic")

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Array:
        """Return a picture, or several, as an array of shape (count, channels, height, width) in float32.

        A picture is the path of an image file, an image of Pillow, or an array (height, width, channels) or (height,
        width) of 8 or 16 bits; four axes are several pictures.

        Raises:
            ImageError: A picture is no image, or its pixels have no known range.
            FileNotFoundError: There is no such file.
        """
        prepared = [self.prepare(picture)[0] for picture in _list_pictures(pictures)]
        if not prepared:
            raise ImageError("there is no picture to prepare")
        return np.stack(prepared)

    def prepare(self, picture: Picture) -> tuple[Array, tuple[str, ...]]:
        """Return one picture as an array (channels, height, width), and notes on how it was read.

        A note says, for example, that it was turned as its EXIF orientation says.
        """
        mode: Mode = "RGB" if self.channels == 3 else "L"
        image, notes = read_picture(picture, mode)
        name = str(picture) if isinstance(picture, str | PathLike) else "the image"
        return self._normalize(np.asarray(self._crop(self._resize(image, name)))), notes

    def __str__(self) -> str:
        """Return the steps in one line, with their numbers."""
        height, width = self.size
        steps = [
            f"{self.channel_order.upper() if self.channels == 3 else 'grey'}, turned as EXIF says",
            self._describe_resize(),
            f"{'centre of' if self.crop_mode != 'border' else 'borders to'} {height} x {width}",
            f"pixels from {self.range[0]} to {self.range[1]}",
        ]
        steps += [f"less {_join(self.mean)}"] if any(self.mean) else []
        steps += [f"divided by {_join(self.std)}"] if set(self.std) != {1} else []
        return "; ".join(steps)

    def _describe_resize(self) -> str:
        pair = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        both = f"{pair[0]} x {pair[1]}"
        what = {
            "center": f"shorter side {self.resize}" if isinstance(self.resize, int) else f"fitted around {both}",
            "squash": f"squashed to {both}",
            "border": f"fitted into {both}",
        }[self.crop_mode]
        how = "" if self.interpolation == "nearest" else ", antialiased" if self.antialias else " by OpenCV"
        return f"{what} ({self.interpolation}{how})"

    def _resize(self, image: Image.Image, name: str) -> Image.Image:
        height, width = self._find_resized_size(image.height, image.width)
        if height * width > _MAX_PIXELS:
            raise ImageError(
                f"{name} is {image.width} x {image.height}: too long to resize its shorter side to {min(height, width)}"
            )
        if self.antialias or self.interpolation == "nearest":
            return image.resize((width, height), _PILLOW[self.interpolation])
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
        return Image.fromarray(cv2_resize.resize_bilinear(pixels, height, width).reshape(height, width, -1).squeeze())

    def _find_resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a resized picture, rounded as the library does."""
        if self.crop_mode == "squash":
            return self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        if isinstance(self.resize, tuple) or self.crop_mode == "border":
            pair = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
            ratios = height / pair[0], width / pair[1]
            ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        if self.convention == "paddleclas":
            scale = self.resize / min(height, width)
            return round(height * scale), round(width * scale)
        longer = int(self.resize * max(height, width) / min(height, width))
        return (longer, self.resize) if width <= height else (self.resize, longer)

    def _crop(self, image: Image.Image) -> Image.Image:
        """Crop an image at its centre; what lies outside of a smaller image is black, or of the mean colour."""
        height, width = self.size
        left, top = self._find_offset(image.width, width), self._find_offset(image.height, height)
        if self.crop_mode != "border":
            return image.crop((left, top, left + width, top + height))
        colour = tuple(round(255 * mean) for mean in self.mean)
        canvas = Image.new(image.mode, (width, height), colour if self.channels == 3 else colour[0])
        canvas.paste(image, (-left, -top))
        return canvas

    def _find_offset(self, available: int, wanted: int) -> int:
        """Return where a crop starts. torchvision rounds half to even, and pads the smaller half first."""
        if self.convention == "paddleclas":
            return (available - wanted) // 2
        return round((available - wanted) / 2) if available >= wanted else -((wanted - available) // 2)

    def _normalize(self, pixels: Array) -> Array:
        """Return pixels of 8 bits (height, width[, channels]) as normalised numbers (channels, height, width)."""
        values: Array = pixels.reshape(*self.size, self.channels).astype(np.float32)
        if self.channel_order == "bgr":
            values = values[:, :, ::-1]
        low, high = self.range
        if self.convention == "paddleclas":
            values = values * np.float32((high - low) / 255)
        elif high - low != 255:
            values = values / np.float32(255 / (high - low))
        if low:
            values = values + np.float32(low)
        values = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))


def _join(numbers: Iterable[float]) -> str:
    return f"({', '.join(f'{number:g}' for number in numbers)})"


def _list_pictures(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    if isinstance(pictures, np.ndarray):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    if isinstance(pictures, str | PathLike | Image.Image):
        return [pictures]
    return list(pictures)


def preparation_of_network(network: Network) -> Preparation:
    """Return the preparation that a network's spec states. Raises ImageError if it states none."""
    preprocess = network.preprocess
    if preprocess is None:
        raise ImageError(
            f"the spec of {network.name} has no preprocess, which sets resize, mean and std; name published weights"
        )
    channels, *size = network.input
    mean, std = _per_channel(preprocess.mean, channels), _per_channel(preprocess.std, channels)
    return Preparation(channels, (size[0], size[1]), preprocess.resize, mean, std)


def preparation_of_weights(
    weights: PublishedWeights, input: tuple[int, int, int] | None = None, *, test_size: bool = False
) -> Preparation:
    """Return the preparation of published weights, for another input or for their test size; see ``preprocessing``."""
    at_test = test_size and weights.test_input is not None and input is None
    channels, height, width = input or (weights.test_input if at_test else None) or weights.input
    return Preparation(
        channels=channels,
        size=(height, width),
        resize=_find_resize(weights, height, width, at_test=at_test),
        mean=_per_channel(weights.mean, channels),
        std=_per_channel(weights.std, channels),
        # Keras's load_img, which takes the nearest pixels, squashes images to the input.
        crop_mode="squash" if weights.interpolation == "nearest" else cast("CropMode", weights.crop_mode),
        interpolation=cast("Interpolation", weights.interpolation or "bilinear"),
        antialias=weights.antialias is not False,
        range=weights.range,
        channel_order=weights.channel_order,
        convention="paddleclas" if weights.registry == "paddleclas" else "torchvision",
    )


def _find_resize(weights: PublishedWeights, height: int, width: int, *, at_test: bool) -> int | tuple[int, int]:
    """Return what images are resized to before a crop of a size; a network without a stated crop reads all of them."""
    stated = min(weights.input[1:])
    if weights.resize is not None:
        sizes = tuple(size * weights.resize // stated for size in (height, width))
    else:
        crop_pct = (weights.test_crop_pct if at_test else None) or weights.crop_pct or 1
        sizes = tuple(math.floor(size / crop_pct) for size in (height, width))
    return sizes[0] if height == width else (sizes[0], sizes[1])


def _per_channel(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return numbers of three channels for as many as a network has; a grey image gets their mean."""
    return (sum(numbers) / len(numbers),) if channels == 1 and len(numbers) == 3 else numbers
