"""Normalisation layers, some of which include an activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from resnet_spec.ops.argument_types import Factor, Fraction, NonNegative, Positive, PositiveInt, round_to_float32
from resnet_spec.ops.shapes import Shape, ShapeError, check_divides, image_shape, no_macs, same_shape
from resnet_spec.ops.weights import Constant, Weight, affine_weights


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Normalisation over batch, height and width, followed by a scale and a shift per channel (Ioffe and Szegedy 2015).

    In evaluation mode, running statistics replace the mean and the variance of the batch.

    Attributes:
        epsilon: Number added to the variance, rounded to float32.
        decay: Weight of the old value when a running statistic is updated (1 - momentum in PyTorch).
        variance: Which variance the running statistics hold: divided by n - 1 (unbiased) or by n (biased).
        affine: Whether there are a learned scale and shift.
        gamma: Initial value of the scale. Zero in a block's last norm makes the block start as the identity.
    """

    epsilon: Positive = 1e-5
    decay: Fraction = 0.9
    variance: Literal["unbiased", "biased"] = "unbiased"
    affine: bool = True
    gamma: Factor = 1.0

    output_shape = image_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon", "decay")

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values of one image each mean and variance is computed from."""
        return math.prod(input_shape[1:])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        mean = Weight("running_mean", input_shape[:1], Constant(0.0), statistic=True)
        var = Weight("running_var", input_shape[:1], Constant(1.0), statistic=True)
        return (*(affine_weights(input_shape[0], self.gamma) if self.affine else ()), mean, var)


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """Normalisation over height, width and a group of channels, followed by a scale and a shift per channel.

    Attributes:
        groups: Number of groups of consecutive channels.
        epsilon: Number added to the variance, rounded to float32.
        gamma: Initial value of the scale.
        size: Channels per group, as 1 for instance normalisation. If it is not 0, it determines the number of groups,
            and ``groups`` is ignored.
        bias: Whether there is a learned shift.
        affine: Whether there are a learned scale and shift.
    """

    groups: PositiveInt = 32
    epsilon: Positive = 1e-5
    gamma: Factor = 1.0
    size: NonNegative = 0
    bias: bool = True
    affine: bool = True

    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def group_count(self, channels: int) -> int:
        """Return the number of groups for a number of channels."""
        return channels // self.size if self.size else self.groups

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        argument = "size" if self.size else "groups"
        check_divides(argument, getattr(self, argument), input_shape[0], "channels", input_shape)
        return input_shape

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values each mean and variance is computed from."""
        return math.prod(input_shape) // self.group_count(input_shape[0])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return affine_weights(input_shape[0], self.gamma, self.bias) if self.affine else ()


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Normalisation of each pixel over its channels, followed by a scale and a shift per channel.

    Attributes:
        epsilon: Number added to the variance, rounded to float32.
        gamma: Initial value of the scale.
        bias: Whether there is a learned shift.
        affine: Whether there are a learned scale and shift.
    """

    epsilon: Positive = 1e-5
    gamma: Factor = 1.0
    bias: bool = True
    affine: bool = True

    output_shape = same_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values each mean and variance is computed from."""
        return input_shape[0]

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return affine_weights(input_shape[0], self.gamma, self.bias) if self.affine else ()


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """Each pixel divided by the root mean square of its channels, times a scale per channel (Zhang and Sennrich 2019).

    Attributes:
        epsilon: Number added to the mean square, rounded to float32.
        gamma: Initial value of the scale.
        variance: Whether to divide by the standard deviation instead, with the variance over n - 1 channels. The mean
            is not subtracted (timm's SimpleNorm).
    """

    epsilon: Positive = 1e-6
    gamma: Factor = 1.0
    variance: bool = False

    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values each mean square is computed from."""
        return input_shape[0]

    def output_shape(self, input_shape: Shape) -> Shape:
        if self.variance and input_shape[0] < 2:
            message = "the variance of one channel is not defined"
            raise ShapeError(message, argument="variance", output_shape=input_shape)
        return input_shape

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return affine_weights(input_shape[0], self.gamma, bias=False)


@dataclass(frozen=True, slots=True)
class GlobalResponseNorm:
    """x + scale * x * n + shift, where n is a channel's norm over the channels' mean norm (Woo et al. 2023).

    The norm of a channel is the square root of its sum of squares over height and width. Where it is zero, no gradient
    passes through it.

    Attributes:
        epsilon: Number added to the mean norm, rounded to float32.
        gamma: Initial value of the scale.
    """

    epsilon: Positive = 1e-6
    gamma: Factor = 0.0

    output_shape = image_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values each norm is computed from."""
        return math.prod(input_shape[1:])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return affine_weights(input_shape[0], self.gamma)


@dataclass(frozen=True, slots=True)
class EvoNormS0:
    """x * sigmoid(v * x) divided by the standard deviation of a group, followed by a scale and a shift per channel.

    A norm and an activation in one, for each image on its own (EvoNorm-S0; Liu et al. 2020, table 2). ``v`` is
    learned, one per channel. A group spans height, width and some of the channels.

    Attributes:
        groups: Number of groups of consecutive channels.
        epsilon: Number added to the variance, rounded to float32.
        gamma: Initial value of the scale.
        act: Whether it is an activation too; if not, x itself is divided, and there is no ``v``.
        size: Channels per group. If it is not 0, it determines the number of groups, and ``groups`` is ignored.
    """

    groups: PositiveInt = 32
    epsilon: Positive = 1e-5
    gamma: Factor = 1.0
    act: bool = True
    size: NonNegative = 0

    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def group_count(self, channels: int) -> int:
        """Return the number of groups for a number of channels."""
        return channels // self.size if self.size else self.groups

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        argument = "size" if self.size else "groups"
        check_divides(argument, getattr(self, argument), input_shape[0], "channels", input_shape)
        return input_shape

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values each standard deviation is computed from."""
        return math.prod(input_shape) // self.group_count(input_shape[0])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        v = Weight("v", input_shape[:1], Constant(1.0))
        return *affine_weights(input_shape[0], self.gamma), *([v] if self.act else ())


@dataclass(frozen=True, slots=True)
class FilterResponseNorm:
    """x divided by its root mean square over height and width, followed by a scale, a shift, and max(x, tau).

    A norm and an activation in one (Singh and Krishnan 2019). ``tau`` is a learned threshold per channel.

    Attributes:
        epsilon: Number added to the mean square, rounded to float32.
        gamma: Initial value of the scale.
    """

    epsilon: Positive = 1e-5
    gamma: Factor = 1.0

    output_shape = image_shape
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "epsilon")

    def values_per_statistic(self, input_shape: Shape) -> int:
        """Return how many values each mean square is computed from."""
        return math.prod(input_shape[1:])

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return *affine_weights(input_shape[0], self.gamma), Weight("tau", input_shape[:1], Constant(0.0))
