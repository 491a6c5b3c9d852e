"""Operations that throw dice in training, and are the identity in evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from resnet_spec.ops.argument_types import Fraction, Positive, PositiveInt, round_to_float32
from resnet_spec.ops.shapes import image_shape, no_macs, same_shape
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class Dropout:
    """In training each element becomes zero with probability rate, and what stays is divided by 1 - rate.

    In evaluation it is the identity.

    Attributes:
        rate: The probability of becoming zero; the nearest float32 is used in every backend.
    """

    rate: Fraction

    output_shape = same_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "rate")


@dataclass(frozen=True, slots=True)
class DropPath:
    """In training an image's whole map becomes zero with probability rate, and one that stays is divided by 1 - rate.

    At the end of a branch this is stochastic depth (Huang et al. 2016). In evaluation it is the identity.

    Attributes:
        rate: The probability of becoming zero; the nearest float32 is used in every backend.
    """

    rate: Fraction

    output_shape = same_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "rate")


@dataclass(frozen=True, slots=True)
class DropBlock:
    """In training squares of the map become zero, in all channels alike, and what stays is scaled to keep the mean.

    Each pixel is the middle of such a square with probability scale * rate * height * width / (size^2 * (height - size + 1) *
    (width - size + 1)); a map smaller than a square bounds it (Ghiasi et al. 2018; timm). In evaluation it is the identity.

    Attributes:
        rate: About the share of the pixels that become zero, where scale is 1; the nearest float32 is used in every backend.
        size: Height and width of a square, in pixels.
        scale: A factor of the probability.
    """

    rate: Fraction
    size: PositiveInt = 7
    scale: Positive = 1.0

    output_shape = image_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "rate", "scale")


def drop_block_squares(rate: float, size: int, scale: float, height: int, width: int) -> tuple[int, int, float]:
    """A DropBlock's square as it fits a map, height and width, and the probability that one has its middle at a pixel."""
    tall, wide = min(size, height), min(size, width)
    places = (height - tall + 1) * (width - wide + 1)
    return tall, wide, min(1.0, scale * rate * height * width / (tall * wide) / places)


Stochastic: TypeAlias = Dropout | DropPath | DropBlock
"""What is left to chance in training, at a ``rate``; in evaluation each of these is the identity."""
