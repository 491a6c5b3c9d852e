"""Norms, and those that are activations too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from resnet_spec.ops.argument_types import Fraction, NonNegative, Positive, PositiveInt, round_to_float32
from resnet_spec.ops.shapes import Shape, check_divides, image_shape, no_macs, same_shape
from resnet_spec.ops.weights import Constant, Weight, affine_weights


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Normalisation over batch, height and width, then a scale and a shift for each channel (Ioffe and Szegedy 2015).

    In evaluation the running statistics take the place of the batch's own.

    Attributes:
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        decay: The weight of the old running statistics when new ones arrive (PyTorch's momentum is one minus this).
        variance: Which variance the running statistics keep: sums of squares over n - 1 (unbiased) or over n (biased).
        affine: Whether a scale and a shift are learnt.
        gamma: The scale's initial value; zero in a block's last norm starts the block as the identity.
    """

    epsilon: Positive = 1e-5
    decay: Fraction = 0.9
    variance: Literal["unbiased", "biased"] = "unbiased"
    affine: bool = True
    gamma: float = 1.0

    output_shape = image_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon", "decay")

    def values(self, input_shape: Shape) -> int:
        """How many numbers of one image each mean and variance is of."""
        return math.prod(input_shape[1:])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        mean = Weight("running_mean", input_shape[:1], Constant(0.0), statistic=True)
        var = Weight("running_var", input_shape[:1], Constant(1.0), statistic=True)
        return (*(affine_weights(input_shape[0], self.gamma) if self.affine else ()), mean, var)


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """Normalisation of each image over height, width and a group of channels, then a scale and a shift for each channel.

    Attributes:
        groups: How many groups the channels are divided into, in order.
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
        size: Channels of one group: where it is not 0, it says how many groups there are, in place of ``groups``.
    """

    groups: PositiveInt = 32
    epsilon: Positive = 1e-5
    gamma: float = 1.0
    size: NonNegative = 0

    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def count(self, channels: int) -> int:
        """How many groups so many channels are divided into."""
        return channels // self.size if self.size else self.groups

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        argument = "size" if self.size else "groups"
        check_divides(argument, getattr(self, argument), input_shape[0], "channels", input_shape)
        return input_shape

    def values(self, input_shape: Shape) -> int:
        """How many numbers each mean and variance is of."""
        return math.prod(input_shape) // self.count(input_shape[0])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return affine_weights(input_shape[0], self.gamma)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Normalisation over the channels, at each pixel of each image alone, then a scale and a shift for each channel.

    Attributes:
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
    """

    epsilon: Positive = 1e-5
    gamma: float = 1.0

    output_shape = same_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def values(self, input_shape: Shape) -> int:
        """How many numbers each mean and variance is of."""
        return input_shape[0]

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return affine_weights(input_shape[0], self.gamma)


@dataclass(frozen=True, slots=True)
class EvoNormS0:
    """x * sigmoid(v * x) over the standard deviation of a group of channels, then a scale and a shift for each channel.

    It is norm and activation in one, and looks at each image alone (Liu et al. 2020, table 2).

    Attributes:
        groups: How many groups the channels are divided into, in order.
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
    """

    groups: PositiveInt = 32
    epsilon: Positive = 1e-5
    gamma: float = 1.0

    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_divides("groups", self.groups, input_shape[0], "channels", input_shape)
        return input_shape

    def values(self, input_shape: Shape) -> int:
        """How many numbers each standard deviation is of."""
        return math.prod(input_shape) // self.groups

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return *affine_weights(input_shape[0], self.gamma), Weight("v", input_shape[:1], Constant(1.0))


@dataclass(frozen=True, slots=True)
class FilterResponseNorm:
    """x over the root of its mean square in height and width, a scale and a shift, and then max(x, tau).

    It is norm and activation in one, with a learnt threshold for each channel (Singh and Krishnan 2019).

    Attributes:
        epsilon: Added to the mean square; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
    """

    epsilon: Positive = 1e-5
    gamma: float = 1.0

    output_shape = image_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def values(self, input_shape: Shape) -> int:
        """How many numbers each mean square is of."""
        return math.prod(input_shape[1:])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return *affine_weights(input_shape[0], self.gamma), Weight("tau", input_shape[:1], Constant(0.0))
