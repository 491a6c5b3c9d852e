"""What arguments of operations may be: their types and ranges."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The least value an argument may have."""

    least: float


@dataclass(frozen=True, slots=True)
class Below:
    """What an argument must stay below."""

    bound: float


PositiveInt = Annotated[int, AtLeast(1)]
AtLeastTwo = Annotated[int, AtLeast(2)]
NonNegative = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0.0), Below(1.0)]
Positive = Annotated[float, AtLeast(2.0**-126), Below(2.0**127)]  # what a normal float32 can hold
Initialization = Literal[
    "he_normal_fan_out", "he_normal_fan_in", "lecun_normal", "glorot_uniform", "uniform_fan_in", "zeros"
]


def round_to_float32(op: object, *names: str) -> None:
    """Round attributes to float32: Paddle keeps an operator's so, and all backends are to use one value."""
    for argument in names:
        (value,) = struct.unpack("f", struct.pack("f", getattr(op, argument)))
        object.__setattr__(op, argument, value)
