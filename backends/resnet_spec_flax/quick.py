"""Convolutions that run as matrix products where XLA multiplies faster on a CPU than it convolves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.network import Leaf
from resnet_spec.ops import Conv
from resnet_spec_flax import layers
from resnet_spec_flax.layers import Layer

FEW = 64
"""Pixels in a batch for which gathering what the kernel sees costs less than it saves."""


def layer(leaf: Leaf, dtype: str) -> Layer:
    """The layer of a leaf, as ``layers.layer`` has it but for convolutions."""
    match leaf.op:
        case Conv(groups=1) as op:
            return layers.abstract(Conv2d, op, leaf.given[0], **layers.convolution(op, dtype))
        case _:
            return layers.layer(leaf, dtype)


class Conv2d(nnx.Conv):
    """nnx's own, computed otherwise."""

    def __init__(self, op: Conv, channels: int, **named: Any) -> None:
        super().__init__(channels, **named)
        self.op = op

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        height, width = (self._count(size) for size in inputs.shape[1:3])
        few = inputs.shape[0] * height * width <= FEW
        if jax.default_backend() != "cpu" or min(height, width) < 1 or not (self.op.kernel == 1 or few):
            given: Array = super().__call__(inputs)
            return given
        seen = self._seen(inputs, height, width)
        y = seen @ self.kernel[...].reshape(
            seen.shape[-1], -1
        )  # (height, width, in, out) -> (height * width * in, out)
        return y if self.bias is None else y + self.bias[...]

    def _count(self, size: int) -> int:
        """How many pixels there are of so many, along one axis."""
        op = self.op
        return (size + 2 * op.padding - op.dilation * (op.kernel - 1) - 1) // op.stride + 1

    def _seen(self, x: Array, height: int, width: int) -> Array:
        """What each pixel's kernel covers: (batch, height, width, kernel height * kernel width * in)."""
        op = self.op
        x = jnp.pad(x, ((0, 0), (op.padding, op.padding), (op.padding, op.padding), (0, 0)))
        starts = [op.dilation * step for step in range(op.kernel)]
        rows = [x[:, start :: op.stride][:, :height] for start in starts]
        return jnp.concatenate(
            [row[:, :, start :: op.stride][:, :, :width] for row in rows for start in starts], axis=-1
        )
