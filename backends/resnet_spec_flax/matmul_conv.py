"""Convolutions that run as matrix products, for CPUs, where XLA multiplies matrices faster than it convolves.

A 3x3 convolution at stride 1 uses Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2015,
https://arxiv.org/abs/1509.09308): a tile of 2x2 outputs takes 16 products instead of 36. Its transforms only add and
halve, so almost no precision is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Conv, Margins, window_of
from resnet_spec_flax import layers
from resnet_spec_flax.layers import Layer

MAX_GATHERED_PIXELS = 64
"""Up to this number of output pixels in a batch, gathering each pixel's window costs less than the product saves."""
MAX_BATCHED_TILES = 64
"""Up to this number of Winograd tiles, all 16 products are one batched product."""
MIN_WINOGRAD_CHANNELS = 64
"""With fewer input or output channels, Winograd's transforms take longer than the products that they save."""


def make_layer(leaf: Leaf, dtype: str) -> Layer:
    """Return the layer of an operation: a ``Conv2d`` of this module for a dense convolution, Flax's layer otherwise."""
    match leaf.op:
        case Conv(groups=1) as op:
            return layers.make_abstract(Conv2d, op, leaf.input_shape[0], **layers.conv_options(op, dtype))
        case _:
            return layers.make_layer(leaf, dtype)


class Conv2d(nnx.Conv):
    """A convolution that runs as a matrix product where that is faster, and as nnx.Conv elsewhere.

    Its kernel may be in Winograd form, as ``winograd_kernel`` returns it.
    """

    def __init__(self, op: Conv, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.window = window_of(op)

    @property
    def uses_winograd(self) -> bool:
        """Whether the kernel should be given in Winograd form, transformed once instead of at each call."""
        window, kernel = self.window, self.kernel
        is_suitable = (window.kernel, window.stride, window.dilation) == ((3, 3), (1, 1), (1, 1))
        is_wide = min(kernel.shape[2:]) >= MIN_WINOGRAD_CHANNELS
        return is_suitable and is_wide and kernel.dtype != jnp.bfloat16 and jax.default_backend() == "cpu"

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        margins = self.window.margins(*inputs.shape[1:3])
        height, width = (self._output_size(axis, size, margins) for axis, size in enumerate(inputs.shape[1:3]))
        gathers = self.window.kernel == (1, 1) or inputs.shape[0] * height * width <= MAX_GATHERED_PIXELS
        multiplies = self._is_winograd_kernel or gathers
        if jax.default_backend() != "cpu" or min(height, width) < 1 or not multiplies:
            convolved: Array = super().__call__(inputs)
            return convolved
        if self._is_winograd_kernel:
            y = _convolve_tiles(inputs, self.kernel[...], margins, height, width)
        else:
            windows = self._gather_windows(inputs, margins, height, width)
            y = windows @ self.kernel[...].reshape(windows.shape[-1], -1)
        return y if self.bias is None else y + self.bias[...]

    @property
    def _is_winograd_kernel(self) -> bool:
        return self.kernel.shape[0] > self.window.kernel[0]

    def _output_size(self, axis: int, size: int, margins: Margins) -> int:
        """Return the output's height or width for that of the input; less than 1 if no window fits."""
        return (size + sum(margins[axis]) - self.window.extent[axis]) // self.window.stride[axis] + 1

    def _gather_windows(self, x: Array, margins: Margins, height: int, width: int) -> Array:
        """Return the window of each output pixel: (batch, height, width, kernel height * kernel width * in)."""
        window = self.window
        x = jnp.pad(x, ((0, 0), *margins, (0, 0)))
        (down, right), (row_starts, column_starts) = (
            window.stride,
            (
                [spread * step for step in range(size)]
                for spread, size in zip(window.dilation, window.kernel, strict=True)
            ),
        )
        rows = [x[:, start::down][:, :height] for start in row_starts]
        columns = [row[:, :, start::right][:, :, :width] for row in rows for start in column_starts]
        return jnp.concatenate(columns, axis=-1)


@jax.jit
def winograd_kernel(kernel: Array) -> Array:
    """Transform a kernel to Winograd form: (3, 3, in, out) -> (4, 4, in, out)."""
    for _ in range(2):  # transforms the first axis and moves it to the second place; twice transforms both
        above, middle, below = kernel
        kernel = jnp.stack([above, (above + middle + below) / 2, (above - middle + below) / 2, below], axis=1)
    return kernel


def _convolve_tiles(x: Array, kernel: Array, margins: Margins, height: int, width: int) -> Array:
    """Convolve with a kernel in Winograd form: (batch, ., ., in) -> (batch, height, width, out)."""
    tile_rows, tile_columns = -(-height // 2), -(-width // 2)
    padding = [
        (before, 2 * tiles + 2 - size - before)
        for tiles, size, (before, _) in zip((tile_rows, tile_columns), x.shape[1:3], margins, strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    # Each input tile is 4x4 and overlaps the next by two. tiles[i][j] holds pixel (i, j) of all transformed tiles, as
    # (tiles, in).
    rows = _transform_inputs([x[:, start : start + 2 * tile_rows : 2] for start in range(4)])
    tiles = [
        _transform_inputs(
            [row[:, :, start : start + 2 * tile_columns : 2].reshape(-1, x.shape[-1]) for start in range(4)]
        )
        for row in rows
    ]
    if len(tiles[0][0]) <= MAX_BATCHED_TILES:
        products = list(jnp.stack([jnp.stack(row) for row in tiles]) @ kernel)
    else:  # one row of the tiles at a time, so that it stays in the processor's cache
        products = [jnp.stack(row) @ factors for row, factors in zip(tiles, kernel, strict=True)]
    # (2, batch * tile rows * tile columns, 2, out), with the rows and columns of each output tile on the axes of 2
    y = jnp.stack(_transform_outputs([jnp.stack(_transform_outputs(row), axis=1) for row in products]))
    y = y.reshape(2, -1, tile_rows, 2 * tile_columns, y.shape[-1]).transpose(1, 2, 0, 3, 4)
    return y.reshape(-1, 2 * tile_rows, *y.shape[3:])[:, :height, :width]


def _transform_inputs(rows: Sequence[Array]) -> list[Array]:
    """Apply Winograd's input transform along one axis: four rows of a tile to four factors."""
    a, b, c, d = rows
    return [a - c, b + c, c - b, b - d]


def _transform_outputs(rows: Sequence[Array] | Array) -> list[Array]:
    """Apply Winograd's output transform along one axis: four rows of products to two rows of outputs."""
    a, b, c, d = rows
    return [a + b + c, b - c - d]
