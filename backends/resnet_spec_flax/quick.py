"""Convolutions that run as matrix products where XLA multiplies faster on a CPU than it convolves.

Of 3x3 at stride 1, by Winograd's minimal filtering, F(2x2, 3x3) (Lavin and Gray, 2015, https://arxiv.org/abs/1509.09308): a tile of 2x2 outputs
takes 16 products instead of 36. Its transforms add and halve, so that next to no accuracy is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Conv
from resnet_spec_flax import layers
from resnet_spec_flax.layers import Layer

FEW = 64
"""Pixels in a batch for which gathering what the kernel sees costs less than it saves; and tiles that are multiplied all at once."""
WIDE = 64
"""Channels from which on the products that tiles save take longer than their transforms."""


def layer(leaf: Leaf, dtype: str) -> Layer:
    """The layer of a leaf, as ``layers.layer`` has it but for convolutions."""
    match leaf.op:
        case Conv(groups=1) as op:
            return layers.abstract(Conv2d, op, leaf.input_shape[0], **layers.convolution(op, dtype))
        case _:
            return layers.layer(leaf, dtype)


class Conv2d(nnx.Conv):
    """nnx's own, computed otherwise. Its kernel may be as it is, or as ``turned`` gives it."""

    def __init__(self, op: Conv, channels: int, **named: Any) -> None:
        super().__init__(channels, **named)
        self.op = op

    @property
    def turns(self) -> bool:
        """Whether the kernel is better turned once than at each call."""
        op, kernel = self.op, self.kernel
        plain = (op.kernel, op.stride, op.dilation) == (3, 1, 1) and min(kernel.shape[2:]) >= WIDE
        return plain and kernel.dtype != jnp.bfloat16 and jax.default_backend() == "cpu"

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        height, width = (self._count(size) for size in inputs.shape[1:3])
        few = inputs.shape[0] * height * width <= FEW
        if jax.default_backend() != "cpu" or min(height, width) < 1 or not (self._turned or self.op.kernel == 1 or few):
            given: Array = super().__call__(inputs)
            return given
        if self._turned:
            y = _by_tiles(inputs, self.kernel[...], self.op.padding, height, width)
        else:
            seen = self._seen(inputs, height, width)
            y = seen @ self.kernel[...].reshape(
                seen.shape[-1], -1
            )  # (height, width, in, out) -> (height * width * in, out)
        return y if self.bias is None else y + self.bias[...]

    @property
    def _turned(self) -> bool:
        return self.kernel.shape[0] > self.op.kernel

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


@jax.jit
def turned(kernel: Array) -> Array:
    """What a kernel is multiplied by with tiles: (3, 3, in, out) -> (4, 4, in, out)."""
    for _ in range(2):  # along the first axis and to the second place, twice
        above, middle, below = kernel
        kernel = jnp.stack([above, (above + middle + below) / 2, (above - middle + below) / 2, below], axis=1)
    return kernel


def _by_tiles(x: Array, kernel: Array, padding: int, height: int, width: int) -> Array:
    """A convolution by a turned kernel: (batch, ., ., in) -> (batch, height, width, out)."""
    down, across = -(-height // 2), -(-width // 2)
    margins = [
        (padding, 2 * tiles + 2 - size - padding) for tiles, size in zip((down, across), x.shape[1:3], strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *margins, (0, 0)))
    # Each (tiles, in): by row of a tile of 4x4, and by column.
    rows = _met([x[:, at : at + 2 * down : 2] for at in range(4)])
    tiles = [_met([row[:, :, at : at + 2 * across : 2].reshape(-1, x.shape[-1]) for at in range(4)]) for row in rows]
    if len(tiles[0][0]) <= FEW:
        products = list(jnp.stack([jnp.stack(row) for row in tiles]) @ kernel)
    else:  # a row at a time, while the processor has it at hand
        products = [jnp.stack(row) @ factors for row, factors in zip(tiles, kernel, strict=True)]
    y = jnp.stack(_left([jnp.stack(_left(row), axis=1) for row in products]))  # (2 down, tiles, 2 across, out)
    y = y.reshape(2, -1, down, 2 * across, y.shape[-1]).transpose(1, 2, 0, 3, 4)
    return y.reshape(-1, 2 * down, *y.shape[3:])[:, :height, :width]


def _met(rows: Sequence[Array]) -> list[Array]:
    """What of four rows meets the kernel's four."""
    a, b, c, d = rows
    return [a - c, b + c, c - b, b - d]


def _left(rows: Sequence[Array] | Array) -> list[Array]:
    """The two rows that four products leave."""
    a, b, c, d = rows
    return [a + b + c, b - c - d]
