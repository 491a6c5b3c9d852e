"""Functions of each number alone."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_spec.ops.argument_types import Fraction, round_to_float32
from resnet_spec.ops.shapes import no_macs, same_shape
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Relu6:
    """min(max(x, 0), 6)."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """x where it is positive, slope * x elsewhere.

    Attributes:
        slope: The factor below zero; the nearest float32 is used in every backend.
    """

    slope: Fraction = 0.01

    output_shape = same_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "slope")


@dataclass(frozen=True, slots=True)
class Elu:
    """x where it is positive, exp(x) - 1 elsewhere."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Gelu:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016).

    Attributes:
        approximate: Whether the formula with tanh is used in its place.
    """

    approximate: bool = False

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Silu:
    """x * sigmoid(x), also called swish."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Tanh:
    """The hyperbolic tangent of x."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class HardSigmoid:
    """relu6(x + 3) / 6."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class HardSwish:
    """x * relu6(x + 3) / 6."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs


@dataclass(frozen=True, slots=True)
class Identity:
    """x itself."""

    output_shape = same_shape
    weights = no_weights
    macs = no_macs
