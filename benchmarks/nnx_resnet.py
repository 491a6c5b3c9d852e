"""A ResNet written by hand in Flax NNX, for comparisons."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnext50_32x4d": (3, 4, 6, 3),
    "resnet152": (3, 8, 36, 3),
}

Convolution = partial(nnx.Conv, use_bias=False, kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"))
Norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)


class Projection(nnx.Module):
    def __init__(self, inner: int, outer: int, stride: int, rngs: nnx.Rngs) -> None:
        self.conv = Convolution(inner, outer, (1, 1), stride, rngs=rngs)
        self.norm = Norm(outer, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class Basic(nnx.Module):
    def __init__(self, inner: int, width: int, outer: int, stride: int, groups: int, rngs: nnx.Rngs) -> None:
        self.conv1 = Convolution(inner, outer, (3, 3), stride, padding=1, rngs=rngs)
        self.norm1 = Norm(outer, rngs=rngs)
        self.conv2 = Convolution(outer, outer, (3, 3), padding=1, rngs=rngs)
        self.norm2 = Norm(outer, rngs=rngs)
        self.projection = Projection(inner, outer, stride, rngs) if stride > 1 or inner != outer else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.projection is None else self.projection(x)))


class Bottleneck(nnx.Module):
    def __init__(self, inner: int, width: int, outer: int, stride: int, groups: int, rngs: nnx.Rngs) -> None:
        self.conv1 = Convolution(inner, width, (1, 1), rngs=rngs)
        self.norm1 = Norm(width, rngs=rngs)
        self.conv2 = Convolution(width, width, (3, 3), stride, padding=1, feature_group_count=groups, rngs=rngs)
        self.norm2 = Norm(width, rngs=rngs)
        self.conv3 = Convolution(width, outer, (1, 1), rngs=rngs)
        self.norm3 = Norm(outer, rngs=rngs)
        self.projection = Projection(inner, outer, stride, rngs) if stride > 1 or inner != outer else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return nnx.relu(y + (x if self.projection is None else self.projection(x)))


class ResNet(nnx.Module):
    def __init__(self, name: str, rngs: nnx.Rngs) -> None:
        block: Any = Basic if name == "resnet18" else Bottleneck
        groups = 32 if name == "resnext50_32x4d" else 1
        self.stem = Convolution(3, 64, (7, 7), 2, padding=3, rngs=rngs)
        self.norm = Norm(64, rngs=rngs)
        blocks, inner = [], 64
        for stage, depth in enumerate(DEPTHS[name]):
            planes = 64 * 2**stage
            outer, width = (planes, planes) if block is Basic else (planes * 4, planes * (2 if groups > 1 else 1))
            for number in range(depth):
                stride = 2 if stage and not number else 1
                blocks.append(block(inner, width, outer, stride, groups, rngs))
                inner = outer
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inner, 1000, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.stem(x)))
        pool: Any = nnx.max_pool  # its type hint allows only a string as padding
        x = pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))
