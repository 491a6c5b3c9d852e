"""Pooling over windows and over whole maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.ops.argument_types import NonNegative, PositiveInt
from resnet_spec.ops.shapes import Shape, ShapeError, check_padding, image_shape, no_macs, windowed_shape
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The maximum over a square window; padding counts as minus infinity.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Pixels from one window to the next.
        padding: Rows and columns added on each of the four sides.
        ceil: Whether a last window that is only partly filled is kept; one that starts in the padding never is.
    """

    kernel: PositiveInt
    stride: PositiveInt = 1
    padding: NonNegative = 0
    ceil: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_padding(self.padding, self.kernel)
        return windowed_shape(input_shape[0], input_shape, self.kernel, self.stride, self.padding, ceil=self.ceil)


@dataclass(frozen=True, slots=True)
class AvgPool:
    """The mean over a square window.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Pixels from one window to the next.
        padding: Zeros added on each of the four sides.
        ceil: Whether a last window that is only partly filled is kept; one that starts in the padding never is.
        count_padding: Whether the padding's zeros count among the elements of the mean.
    """

    kernel: PositiveInt
    stride: PositiveInt = 1
    padding: NonNegative = 0
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
    """A fixed 3x3 blur, [1, 2, 1] in both directions over 16, whose stride then takes no frequency wrongly (Zhang 2019).

    One row and column is mirrored around the image, so that its edge is not darkened. It owns no weights.

    Attributes:
        stride: Pixels from one window to the next.
    """

    stride: PositiveInt = 2

    weights = no_weights

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        if min(height, width) < 2:
            raise ShapeError(
                f"there is no second row or column to mirror in {height} x {width} pixels",
                output_shape=input_shape,
                small=True,
            )
        return windowed_shape(channels, input_shape, 3, self.stride, 1)

    def macs(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * 9


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """The mean over height and width.

    Attributes:
        keepdims: Whether what is left is (channels, 1, 1), not (channels,).
    """

    keepdims: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return pooled_shape(self, input_shape, self.keepdims)


@dataclass(frozen=True, slots=True)
class GlobalMaxPool:
    """The maximum over height and width; its gradient goes to the first of several equal ones.

    Attributes:
        keepdims: Whether what is left is (channels, 1, 1), not (channels,).
    """

    keepdims: bool = False

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return pooled_shape(self, input_shape, self.keepdims)


def pooled_shape(op: object, input_shape: Shape, keepdims: bool) -> Shape:
    return (image_shape(op, input_shape)[0], 1, 1) if keepdims else image_shape(op, input_shape)[:1]
