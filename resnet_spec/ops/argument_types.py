"""Types and ranges of the arguments of operations."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True, slots=True)
class AtLeast:
    """An inclusive lower bound of an argument."""

    least: float


@dataclass(frozen=True, slots=True)
class Below:
    """An exclusive upper bound of an argument."""

    bound: float


PositiveInt = Annotated[int, AtLeast(1)]
AtLeastTwo = Annotated[int, AtLeast(2)]
NonNegative = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0.0), Below(1.0)]
Positive = Annotated[float, AtLeast(2.0**-126), Below(2.0**127)]  # the range of normal float32 numbers
Initialization = Literal[
    "he_normal_fan_out", "he_normal_fan_in", "lecun_normal", "glorot_uniform", "uniform_fan_in", "zeros"
]


def round_to_float32(op: object, *names: str) -> None:
    """Round attributes to float32, as Paddle stores them, so that every backend uses the same values."""
    for name in names:
        (value,) = struct.unpack("f", struct.pack("f", getattr(op, name)))
        object.__setattr__(op, name, value)
