"""Activations: functions applied to each element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet_spec.ops.argument_types import Fraction, round_to_float32
from resnet_spec.ops.shapes import Shape, no_macs, same_shape
from resnet_spec.ops.weights import Constant, Weight, no_weights


@dataclass(frozen=True, slots=True)
class Relu:
    """Rectified linear unit: max(x, 0)."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Relu6:
    """Rectified linear unit with an upper bound: min(max(x, 0), 6)."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class SquaredRelu:
    """Square of a rectified linear unit: max(x, 0)^2 (So et al. 2021). StarReLU is this, then a scale and a shift."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Prelu:
    """Leaky rectified linear unit with a learned slope: x if x > 0, otherwise weight * x (He et al. 2015).

    Attributes:
        slope: Initial value of the slope.
        per: Whether each channel has a slope of its own, or one holds for all.
    """

    slope: float = 0.25
    per: Literal["channel", "all"] = "all"

    output_shape = same_shape
    macs = no_macs

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return (Weight("weight", (input_shape[0] if self.per == "channel" else 1,), Constant(self.slope)),)


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """Leaky rectified linear unit: x if x > 0, otherwise slope * x.

    Attributes:
        slope: Factor for negative inputs, rounded to float32.
    """

    slope: Fraction = 0.01

    output_shape = same_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "slope")


@dataclass(frozen=True, slots=True)
class Elu:
    """Exponential linear unit: x if x > 0, otherwise exp(x) - 1."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Gelu:
    """Gaussian error linear unit: x times the normal cumulative distribution function of x (Hendrycks and Gimpel 2016).

    Attributes:
        approximate: Whether to compute the approximation by tanh.
    """

    approximate: bool = False

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Silu:
    """Sigmoid linear unit, also called swish: x * sigmoid(x)."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """Logistic sigmoid: 1 / (1 + exp(-x))."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Tanh:
    """Hyperbolic tangent of x."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class HardSigmoid:
    """Piecewise linear approximation of the sigmoid: relu6(x + 3) / 6."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class HardSwish:
    """Swish with a piecewise linear sigmoid: x * relu6(x + 3) / 6."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Identity:
    """The input, unchanged."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs
