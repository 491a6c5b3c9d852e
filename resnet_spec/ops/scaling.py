"""Factors and summands, learned or fixed, for each channel or for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet_spec.ops.shapes import Shape, no_macs, same_shape
from resnet_spec.ops.weights import Constant, Weight


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiplication by a factor. The weight has the name of the layer itself, as in ``layer1.0.gamma``.

    Attributes:
        factor: The factor or, if it is learned, its initial value.
        per: Whether each channel has a factor of its own, or one holds for all.
        learned: Whether the factor is a weight.
        keepdims: Whether the weight has shape (channels, 1, 1) instead of (channels,), or (1,) instead of ().
    """

    factor: float = 1.0
    per: Literal["channel", "all"] = "channel"
    learned: bool = True
    keepdims: bool = False

    output_shape = same_shape
    macs = no_macs

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return own_weights(self.factor, self.per, self.keepdims, input_shape) if self.learned else ()


@dataclass(frozen=True, slots=True)
class Shift:
    """Addition of a learned summand. The weight has the name of the layer itself.

    Attributes:
        start: Initial value of the summand.
        per: Whether each channel has a summand of its own, or one holds for all.
        keepdims: Whether the weight has shape (channels, 1, 1) instead of (channels,), or (1,) instead of ().
    """

    start: float = 0.0
    per: Literal["channel", "all"] = "channel"
    keepdims: bool = False

    output_shape = same_shape
    macs = no_macs

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return own_weights(self.start, self.per, self.keepdims, input_shape)


def own_weights(start: float, per: Literal["channel", "all"], keepdims: bool, input_shape: Shape) -> tuple[Weight, ...]:
    """Return the weight of a layer that has the layer's own name."""
    if per == "all":
        return (Weight("", (1,) if keepdims else (), Constant(start)),)
    return (Weight("", (input_shape[0], *[1] * (len(input_shape) - 1 if keepdims else 0)), Constant(start)),)
