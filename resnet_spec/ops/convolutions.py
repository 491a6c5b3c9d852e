"""Convolutions and the linear layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.ops.argument_types import (
    Initialization,
    Padding,
    Positive,
    PositiveInt,
    Size,
    WindowSize,
    round_to_float32,
)
from resnet_spec.ops.shapes import Shape, ShapeError, check_divides, image_shape
from resnet_spec.ops.weights import Constant, Weight, kernel_weights
from resnet_spec.ops.windows import normalize_window, per_axis, window_of


@dataclass(frozen=True, slots=True)
class Conv:
    """Two-dimensional convolution with zero padding.

    Attributes:
        out: Number of output channels.
        kernel: Height and width of the kernel, in pixels.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns of zeros added on each of the four sides; half is (kernel - 1) / 2, and same adds
            what ceil(size / stride) windows need, the odd row or column at the bottom and on the right.
        dilation: Distance from one element of the kernel to the next, in pixels.
        groups: Number of groups of channels, each of which is convolved separately.
        bias: Whether to add a learned bias to each output channel.
        init: Distribution of the kernel's initial values.
    """

    out: PositiveInt
    kernel: Size
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: PositiveInt = 1
    bias: bool = False
    init: Initialization = "he_normal_fan_out"

    def __post_init__(self) -> None:
        normalize_window(self)

    def output_shape(self, input_shape: Shape) -> Shape:
        output_shape = window_of(self).output_shape(self.out, image_shape(self, input_shape))
        check_divides("groups", self.groups, input_shape[0], "input channels", output_shape)
        check_divides("groups", self.groups, self.out, "output channels", output_shape, related="out")
        return output_shape

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        shape = (self.out, input_shape[0] // self.groups, *per_axis(self.kernel))
        return kernel_weights(shape, self.init, self.bias)

    def macs(self, input_shape: Shape) -> int:
        return (
            math.prod(self.output_shape(input_shape))
            * (input_shape[0] // self.groups)
            * math.prod(per_axis(self.kernel))
        )


@dataclass(frozen=True, slots=True)
class StandardizedConv:
    """Convolution whose kernels are standardised to mean 0 and variance 1 before they are used (Qiao et al. 2019).

    Attributes:
        out: Number of output channels.
        kernel: Height and width of the kernel, in pixels.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns of zeros added on each of the four sides; half is (kernel - 1) / 2, and same adds
            what ceil(size / stride) windows need, the odd row or column at the bottom and on the right.
        dilation: Distance from one element of the kernel to the next, in pixels.
        groups: Number of groups of channels, each of which is convolved separately.
        bias: Whether to add a learned bias to each output channel.
        epsilon: Number added to a kernel's variance, rounded to float32.
        init: Distribution of the kernel's initial values.
        scaled: Whether the kernel is then multiplied by a learned gain per output channel and divided by the square
            root of its fan-in, as in networks without norms (Brock et al. 2021).
        factor: Another factor of a scaled kernel: the gain of the activation before it.
    """

    out: PositiveInt
    kernel: Size
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: PositiveInt = 1
    bias: bool = False
    epsilon: Positive = 1e-6
    init: Initialization = "he_normal_fan_out"
    scaled: bool = False
    factor: float = 1.0

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")
        normalize_window(self)

    def to_conv(self) -> Conv:
        """Return the convolution that takes kernels which are standardised already."""
        return Conv(self.out, self.kernel, self.stride, self.padding, self.dilation, self.groups, self.bias, self.init)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.to_conv().output_shape(input_shape)

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        gain = Weight("gain", (self.out, 1, 1, 1), Constant(1.0))
        return (*self.to_conv().weights(input_shape), *([gain] if self.scaled else ()))

    def fan_in_factor(self, input_shape: Shape) -> float:
        """Return the constant by which a scaled kernel is multiplied: factor / sqrt(fan-in)."""
        fan_in = input_shape[0] // self.groups * math.prod(per_axis(self.kernel))
        return self.factor / math.sqrt(fan_in)

    def macs(self, input_shape: Shape) -> int:
        return self.to_conv().macs(input_shape)


@dataclass(frozen=True, slots=True)
class ChannelConv:
    """One-dimensional convolution along the channels of a feature vector, with one kernel (Wang et al. 2019, ECA-Net).

    Attributes:
        kernel: Size of the kernel in channels, an odd number. Zero padding keeps the number of channels.
        init: Distribution of the kernel's initial values.
    """

    kernel: WindowSize
    init: Initialization = "uniform_fan_in"

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                f"channel_conv needs an input of shape (features,), but gets {input_shape}", output_shape=input_shape
            )
        if self.kernel % 2 == 0:
            raise ShapeError(f"kernel is {self.kernel}, but must be odd", argument="kernel", output_shape=input_shape)
        return input_shape

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return kernel_weights((1, 1, self.kernel), self.init, bias=False)

    def macs(self, input_shape: Shape) -> int:
        return input_shape[0] * self.kernel


@dataclass(frozen=True, slots=True)
class Linear:
    """Fully connected layer: the product of the features with a weight of shape (out, in), plus a bias.

    On a map, the features are the channels of each pixel.

    Attributes:
        out: Number of output features.
        bias: Whether to add a learned bias to each output feature.
        init: Distribution of the weight's initial values.
    """

    out: PositiveInt
    bias: bool = True
    init: Initialization = "uniform_fan_in"

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.out, *input_shape[1:]

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return kernel_weights((self.out, input_shape[0]), self.init, self.bias)

    def macs(self, input_shape: Shape) -> int:
        return self.out * math.prod(input_shape)
