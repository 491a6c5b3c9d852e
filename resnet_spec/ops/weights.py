"""Weights of operations: their shapes, and the distributions of their initial values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from resnet_spec.ops.argument_types import Initialization
from resnet_spec.ops.shapes import Shape


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal distribution with mean 0."""

    std: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """A uniform distribution from -bound to bound."""

    bound: float


@dataclass(frozen=True, slots=True)
class Constant:
    """One value for every element."""

    value: float


Distribution: TypeAlias = Normal | Uniform | Constant


@dataclass(frozen=True, slots=True)
class Weight:
    """An array that belongs to an operation: learned, or a running statistic."""

    name: str
    shape: Shape
    init: Distribution
    statistic: bool = False


def initializer(name: Initialization, fan_in: int, fan_out: int) -> Distribution:
    """Return the distribution that ``name`` stands for in specs, for a kernel with this fan-in and fan-out."""
    match name:
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


def kernel_weights(shape: Shape, init: Initialization, bias: bool) -> tuple[Weight, ...]:
    """Return a weight of shape (out, in, ...) and, if there is one, its bias.

    The bias is initialized as in PyTorch: uniformly from -1 / sqrt(fan_in) to 1 / sqrt(fan_in).
    """
    area = math.prod(shape[2:])
    weight = Weight("weight", shape, initializer(init, fan_in=shape[1] * area, fan_out=shape[0] * area))
    return (weight, Weight("bias", shape[:1], Uniform(1 / math.sqrt(shape[1] * area)))) if bias else (weight,)


def affine_weights(channels: int, gamma: float, bias: bool = True) -> tuple[Weight, ...]:
    """Return a scale per channel, which is named weight, and a shift, which is named bias."""
    shift = Weight("bias", (channels,), Constant(0.0))
    return (Weight("weight", (channels,), Constant(gamma)), *([shift] if bias else ()))


def no_weights(op: object, input_shape: Shape) -> tuple[Weight, ...]:
    """Return no weights: those of operations that have none."""
    return ()
