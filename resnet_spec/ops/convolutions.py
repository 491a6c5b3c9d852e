"""Convolutions and matrix products."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.ops.argument_types import Initialization, NonNegative, Positive, PositiveInt, round_to_float32
from resnet_spec.ops.shapes import Shape, ShapeError, check_divides, image_shape, windowed_shape
from resnet_spec.ops.weights import Weight, kernel_weights


@dataclass(frozen=True, slots=True)
class Conv:
    """A two-dimensional convolution with a square kernel and zeros for padding.

    Attributes:
        out: Channels that come out.
        kernel: Height and width of the kernel, in pixels.
        stride: Pixels from one window to the next.
        padding: Zeros added on each of the four sides.
        dilation: Pixels from one element of the kernel to the next.
        groups: Groups of channels that do not see each other.
        bias: Whether a learnt number is added to each channel.
        init: How the kernel's initial values are drawn.
    """

    out: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt = 1
    padding: NonNegative = 0
    dilation: PositiveInt = 1
    groups: PositiveInt = 1
    bias: bool = False
    init: Initialization = "he_normal_fan_out"

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        output_shape = windowed_shape(self.out, input_shape, self.kernel, self.stride, self.padding, self.dilation)
        check_divides("groups", self.groups, input_shape[0], "input channels", output_shape)
        check_divides("groups", self.groups, self.out, "output channels", output_shape, other="out")
        return output_shape

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return kernel_weights((self.out, input_shape[0] // self.groups, self.kernel, self.kernel), self.init, self.bias)

    def macs(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * (input_shape[0] // self.groups) * self.kernel**2


@dataclass(frozen=True, slots=True)
class StandardizedConv:
    """A convolution whose kernels are first standardised, each to mean 0 and variance 1 (Qiao et al. 2019).

    Attributes:
        out: Channels that come out.
        kernel: Height and width of the kernel, in pixels.
        stride: Pixels from one window to the next.
        padding: Zeros added on each of the four sides.
        dilation: Pixels from one element of the kernel to the next.
        groups: Groups of channels that do not see each other.
        bias: Whether a learnt number is added to each channel.
        epsilon: Added to the variance of a kernel; the nearest float32 is used in every backend.
        init: How the kernel's initial values are drawn.
    """

    out: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt = 1
    padding: NonNegative = 0
    dilation: PositiveInt = 1
    groups: PositiveInt = 1
    bias: bool = False
    epsilon: Positive = 1e-6
    init: Initialization = "he_normal_fan_out"

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def plain(self) -> Conv:
        """The convolution that the standardised kernels are for."""
        return Conv(self.out, self.kernel, self.stride, self.padding, self.dilation, self.groups, self.bias, self.init)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.plain().output_shape(input_shape)

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return self.plain().weights(input_shape)

    def macs(self, input_shape: Shape) -> int:
        return self.plain().macs(input_shape)


@dataclass(frozen=True, slots=True)
class ChannelConv:
    """A one-dimensional convolution along the channels, one kernel for all of them (Wang et al. 2019, ECA-Net).

    Attributes:
        kernel: Channels that the kernel spans, an odd number; as many zeros stand at each end as keep their count.
        init: How the kernel's initial values are drawn.
    """

    kernel: PositiveInt
    init: Initialization = "uniform_fan_in"

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(f"channel_conv works on (features,), but is given {input_shape}", output_shape=input_shape)
        if self.kernel % 2 == 0:
            raise ShapeError(f"kernel is {self.kernel}, an even number", argument="kernel", output_shape=input_shape)
        return input_shape

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return kernel_weights((1, 1, self.kernel), self.init, bias=False)

    def macs(self, input_shape: Shape) -> int:
        return input_shape[0] * self.kernel


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix product of the features with a weight of shape (out, in), and a bias.

    Attributes:
        out: Features that come out.
        bias: Whether a learnt number is added to each feature.
        init: How the weight's initial values are drawn.
    """

    out: PositiveInt
    bias: bool = True
    init: Initialization = "uniform_fan_in"

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                f"linear works on (features,), but is given {input_shape}",
                help="global_avg_pool or flatten, put before it, gives features",
                output_shape=(self.out,),
            )
        return (self.out,)

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return kernel_weights((self.out, *input_shape), self.init, self.bias)

    def macs(self, input_shape: Shape) -> int:
        return self.out * input_shape[0]
