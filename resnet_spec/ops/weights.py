"""The arrays that operations own, and how their initial values are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from resnet_spec.ops.argument_types import Initialization
from resnet_spec.ops.shapes import Shape


@dataclass(frozen=True, slots=True)
class Normal:
    """Initial values from a normal distribution around zero."""

    std: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """Initial values evenly from -bound to bound."""

    bound: float


@dataclass(frozen=True, slots=True)
class Constant:
    """The same initial value everywhere."""

    value: float


Init: TypeAlias = Normal | Uniform | Constant


@dataclass(frozen=True, slots=True)
class Weight:
    """An array that an operation owns. A statistic is kept by running means, not learnt."""

    name: str
    shape: Shape
    init: Init
    statistic: bool = False


def initializer(start: Initialization, fan_in: int, fan_out: int) -> Init:
    """How initial values are drawn, from the word for it and how many numbers go into one sum, and one into how many."""
    match start:
        case "he_normal_fan_out":
            return Normal(math.sqrt(2 / fan_out))
        case "he_normal_fan_in":
            return Normal(math.sqrt(2 / fan_in))
        case "lecun_normal":
            return Normal(math.sqrt(1 / fan_in))
        case "glorot_uniform":
            return Uniform(math.sqrt(6 / (fan_in + fan_out)))
        case "uniform_fan_in":
            return Uniform(1 / math.sqrt(fan_in))
        case "zeros":
            return Constant(0.0)


def kernel_weights(shape: Shape, start: Initialization, bias: bool) -> tuple[Weight, ...]:
    """A weight (out, in, ...) and its bias; the bias starts as PyTorch's does, evenly within 1/sqrt(fan in)."""
    area = math.prod(shape[2:])
    weight = Weight("weight", shape, initializer(start, fan_in=shape[1] * area, fan_out=shape[0] * area))
    return (weight, Weight("bias", shape[:1], Uniform(1 / math.sqrt(shape[1] * area)))) if bias else (weight,)


def affine_weights(channels: int, gamma: float) -> tuple[Weight, ...]:
    """A scale and a shift for each channel."""
    return Weight("weight", (channels,), Constant(gamma)), Weight("bias", (channels,), Constant(0.0))


def no_weights(op: object, input_shape: Shape) -> tuple[Weight, ...]:
    return ()
