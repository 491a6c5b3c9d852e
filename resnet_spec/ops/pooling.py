"""Pooling over windows and over entire feature maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.ops.argument_types import Padding, WindowSize
from resnet_spec.ops.shapes import Shape, ShapeError, check_padding, image_shape, no_macs, windowed_shape
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over a square window. Padding counts as minus infinity.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns added on each of the four sides, at most half of the kernel.
        ceil: Whether to keep a last window that reaches past the edge, unless it starts in the padding.
    """

    kernel: WindowSize
    stride: WindowSize = 1
    padding: Padding = 0
    ceil: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_padding(self.padding, self.kernel)
        return windowed_shape(input_shape[0], input_shape, self.kernel, self.stride, self.padding, ceil=self.ceil)


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Mean over a square window.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns of zeros added on each of the four sides, at most half of the kernel.
        ceil: Whether to keep a last window that reaches past the edge, unless it starts in the padding.
        count_padding: Whether the mean includes the zeros of the padding.
    """

    kernel: WindowSize
    stride: WindowSize = 1
    padding: Padding = 0
    ceil: bool = False
    count_padding: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_padding(self.padding, self.kernel)
        return windowed_shape(input_shape[0], input_shape, self.kernel, self.stride, self.padding, ceil=self.ceil)


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
        return windowed_shape(channels, input_shape, 3, self.stride, 1)

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


def pooled_shape(op: object, input_shape: Shape, keepdims: bool) -> Shape:
    return (image_shape(op, input_shape)[0], 1, 1) if keepdims else image_shape(op, input_shape)[:1]
