"""Types and ranges of the arguments of operations."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True, slots=True)
class AtLeast:
    """An inclusive lower bound of an argument."""

    least: float  # an int if the argument is one


@dataclass(frozen=True, slots=True)
class PerAxis:
    """An argument that is one number for both axes or [height, width], or one of some words."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Below:
    """An exclusive upper bound of an argument."""

    bound: float


# Paddle keeps integers in 32 bits, and adds up to three sizes of a window to the side of a map.
PositiveInt = Annotated[int, AtLeast(1), Below(2**31)]
AtLeastTwo = Annotated[int, AtLeast(2), Below(2**31)]
NonNegative = Annotated[int, AtLeast(0), Below(2**31)]
WindowSize = Annotated[int, AtLeast(1), Below(2**16)]
Margin = Annotated[int, AtLeast(0), Below(2**16)]
Size = Annotated[int | tuple[int, int], AtLeast(1), Below(2**16), PerAxis()]
Padding = Annotated[
    int | tuple[int, int] | Literal["same", "half"], AtLeast(0), Below(2**16), PerAxis(("same", "half"))
]
Fraction = Annotated[float, AtLeast(0.0), Below(1 - 2.0**-25)]  # what float32 does not round to 1
Positive = Annotated[float, AtLeast(2.0**-126), Below(2.0**127)]  # the range of normal float32 numbers
Factor = Annotated[float, AtLeast(-(2.0**127)), Below(2.0**127)]
Initialization = Literal[
    "he_normal_fan_out", "he_normal_fan_in", "lecun_normal", "glorot_uniform", "uniform_fan_in", "zeros"
]


def round_to_float32(op: object, *names: str) -> None:
    """Round attributes to float32, as Paddle stores them, so that every backend uses the same values."""
    for name in names:
        object.__setattr__(op, name, _nearest_float32(getattr(op, name)))


def shortest_decimal(value: float) -> float:
    """Return the number with the fewest digits that rounds to a float32.

    >>> shortest_decimal(0.8999999761581421)
    0.9
    """
    candidates = (float(f"{value:.{digits}g}") for digits in range(1, 10))  # nine digits tell any two float32 apart
    return next(candidate for candidate in candidates if _nearest_float32(candidate) == value)


def _nearest_float32(value: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)
