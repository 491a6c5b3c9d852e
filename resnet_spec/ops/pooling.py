"""Pooling over windows and over entire feature maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.ops.argument_types import Padding, Size, WindowSize
from resnet_spec.ops.shapes import Shape, ShapeError, image_shape, no_macs
from resnet_spec.ops.weights import no_weights
from resnet_spec.ops.windows import Window, check_padding, normalize_window, per_axis, simplify, window_of


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over a window. Padding counts as minus infinity.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns added on each of the four sides, at most half of the kernel; half is (kernel - 1) / 2,
            and same adds what ceil(size / stride) windows need.
        ceil: Whether to keep a last window that reaches past the edge, unless it starts in the padding.
    """

    kernel: Size
    stride: Size = 1
    padding: Padding = 0
    ceil: bool = False

    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        normalize_window(self)

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_padding(self)
        return window_of(self).output_shape(input_shape[0], input_shape)


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Mean over a window.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns of zeros added on each of the four sides, at most half of the kernel; half is
            (kernel - 1) / 2, and same adds what ceil(size / stride) windows need.
        ceil: Whether to keep a last window that reaches past the edge, unless it starts in the padding.
        count_padding: Whether the mean includes the zeros of the padding.
    """

    kernel: Size
    stride: Size = 1
    padding: Padding = 0
    ceil: bool = False
    count_padding: bool = False

    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        normalize_window(self)

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_padding(self)
        return window_of(self).output_shape(input_shape[0], input_shape)


@dataclass(frozen=True, slots=True)
class BlurPool:
    """Fixed 3x3 blur, [1, 2, 1] in both directions divided by 16, to avoid aliasing in subsampling (Zhang 2019).

    The image is padded by one row and column on each side, by reflection. There are no weights.

    Attributes:
        stride: Distance from one window to the next, in pixels.
    """

    stride: WindowSize = 2

    weights = no_weights

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        if min(height, width) < 2:
            raise ShapeError(
                f"reflection padding needs at least 2 x 2 pixels, but the input has {height} x {width}",
                output_shape=input_shape,
                input_too_small=True,
            )
        return Window((3, 3), (self.stride, self.stride), (1, 1)).output_shape(channels, input_shape)

    def macs(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * 9


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """Mean over height and width.

    Attributes:
        keepdims: Whether the output has shape (channels, 1, 1) instead of (channels,).
    """

    keepdims: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return pooled_shape(self, input_shape, self.keepdims)


@dataclass(frozen=True, slots=True)
class GlobalMaxPool:
    """Maximum over height and width. If several elements are equal to it, the first receives the gradient.

    Attributes:
        keepdims: Whether the output has shape (channels, 1, 1) instead of (channels,).
    """

    keepdims: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return pooled_shape(self, input_shape, self.keepdims)


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPool:
    """Mean over windows that divide a map into a fixed number of rows and columns, for a map of any size.

    Of n rows, output row i is the mean of rows floor(i * n / size) to ceil((i + 1) * n / size) - 1; columns likewise.

    Attributes:
        size: Height and width of the output, in pixels.
    """

    size: Size

    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", simplify(self.size))

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape)[0], *per_axis(self.size)


@dataclass(frozen=True, slots=True)
class ChannelAvgPool:
    """Mean over the channels of each pixel: one map remains."""

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return 1, *image_shape(self, input_shape)[1:]


@dataclass(frozen=True, slots=True)
class ChannelMaxPool:
    """Maximum over the channels of each pixel: one map remains. Of equal elements, the first receives the gradient."""

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return 1, *image_shape(self, input_shape)[1:]


def pooled_shape(op: object, input_shape: Shape, keepdims: bool) -> Shape:
    return (image_shape(op, input_shape)[0], 1, 1) if keepdims else image_shape(op, input_shape)[:1]
