"""Regularisation at random in training mode; each of these operations is the identity in evaluation mode."""

# Annotations are not postponed in this file: torch.jit.script compiles ``drop_block_squares``, and needs them as types.

from dataclasses import dataclass
from typing import TypeAlias

from resnet_spec.ops.argument_types import Fraction, Positive, PositiveInt, round_to_float32
from resnet_spec.ops.shapes import image_shape, no_macs, same_shape
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout: in training mode, each value becomes zero with probability rate, and the others are divided by 1 - rate.

    In evaluation mode it is the identity (Srivastava et al. 2014).

    Attributes:
        rate: Probability of becoming zero, rounded to float32.
    """

    rate: Fraction

    output_shape = same_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "rate")


@dataclass(frozen=True, slots=True)
class DropPath:
    """Dropout of entire images: in training mode, all of an image's values become zero with probability rate.

    The values of the other images are divided by 1 - rate. At the end of a residual branch this is stochastic depth
    (Huang et al. 2016). In evaluation mode it is the identity.

    Attributes:
        rate: Probability of becoming zero, rounded to float32.
    """

    rate: Fraction

    output_shape = same_shape
    weights = no_weights
    macs = no_macs

    def __post_init__(self) -> None:
        round_to_float32(self, "rate")


@dataclass(frozen=True, slots=True)
class DropBlock:
    """Dropout of squares: in training mode, random squares become zero in all channels, and the rest is scaled.

    The scaling divides by the share of the pixels that are kept. Each pixel is the centre of a square with probability
    scale * rate * height * width / (size^2 * (height - size + 1) * (width - size + 1)). On a map that is smaller than
    a square, the square is as large as the map (Ghiasi et al. 2018; timm). In evaluation mode it is the identity.

    Attributes:
        rate: Approximate share of the pixels that become zero if scale is 1, rounded to float32.
        size: Height and width of a square, in pixels.
        scale: Factor of the probability, rounded to float32.
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
    """Return the height and width of the squares on a map, and the probability that a pixel is the centre of one."""
    square_height, square_width = min(size, height), min(size, width)
    places = (height - square_height + 1) * (width - square_width + 1)
    probability = scale * rate * height * width / (square_height * square_width) / places
    return square_height, square_width, min(1.0, probability)


Stochastic: TypeAlias = Dropout | DropPath | DropBlock
"""Operations that are random in training mode, with a ``rate``, and the identity in evaluation mode."""
