"""Recognise what a rearrangement of a map's elements is: which operation of ours, or which of the map's channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np

from resnet_spec.ops import ChannelShuffle, Flatten, MaxPool, Op, Shape, SpaceToDepth, Upsample

Index: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Order: TypeAlias = Literal["channel_row_column", "row_column_channel", "column_row_channel"]

_ORDERS: dict[Order, tuple[int, ...]] = {
    "channel_row_column": (0, 2, 4, 1, 3),
    "row_column_channel": (2, 4, 0, 1, 3),
    "column_row_channel": (4, 2, 0, 1, 3),
}
"""The axes of tiles (channel, tile's row, row in it, tile's column, column in it), as SpaceToDepth has them."""


def positions(shape: Shape) -> Index:
    """Return the positions of a map's elements."""
    return np.arange(int(np.prod(shape))).reshape(shape)


def is_identity(index: Index, shape: Shape) -> bool:
    """Return whether indices leave a map of this shape as it is."""
    return index.shape == tuple(shape) and bool(np.array_equal(index.reshape(-1), np.arange(index.size)))


def shrink_broadcast(index: Index) -> Index:
    """Return indices without the repetition along axes on which all elements are the same."""
    for axis in range(index.ndim):
        first = np.take(index, [0], axis)
        if index.shape[axis] > 1 and bool((index == first).all()):
            index = first
    return index


def describe_rearrangement(index: Index, shape: Shape) -> Op | tuple[int, int] | None:
    """Return the operation that picks these elements of a map, or the range of channels that they are, or None."""
    whole = positions(shape)
    if index.ndim == 1 and index.size == whole.size and is_identity(index, index.shape):
        return Flatten()
    if len(shape) == index.ndim and index.shape[1:] == shape[1:] and index.size:
        start = int(index.reshape(-1)[0]) // max(1, int(np.prod(shape[1:])))
        if np.array_equal(whole[start : start + len(index)], index):
            return start, start + len(index)
    if len(shape) != 3 or index.ndim != 3:
        return None
    return next((op for op, picked in _candidates(index.shape, shape, whole) if np.array_equal(picked, index)), None)


def is_nearest(index: Index, shape: Shape) -> bool:
    """Return whether indices pick the nearest pixels of a map, as many as a map of another size has."""
    if len(shape) != 3 or index.ndim != 3 or index.shape[0] != shape[0] or index.shape == shape:
        return False
    rows, columns = (np.arange(size) * length // size for size, length in zip(index.shape[1:], shape[1:], strict=True))
    return bool(np.array_equal(positions(shape)[:, rows][:, :, columns], index))


def _candidates(target: Shape, shape: Shape, whole: Index) -> Iterator[tuple[Op, Index]]:
    channels, height, width = shape
    if target == shape:
        for groups in range(2, channels):
            if channels % groups == 0:
                yield ChannelShuffle(groups), whole.reshape(groups, -1, height, width).swapaxes(0, 1).reshape(shape)
    if target[0] == channels and target[1] < height:
        stride = -(-height // target[1])
        yield MaxPool(1, stride), whole[:, ::stride, ::stride]
    if target[0] == channels and target[1] % height == 0 and target[1] > height:
        factor = target[1] // height
        yield Upsample(factor), whole.repeat(factor, 1).repeat(factor, 2)
    size = height // max(1, target[1])
    if size > 1 and target == (channels * size**2, height // size, width // size) and height % size + width % size == 0:
        tiles = whole.reshape(channels, height // size, size, width // size, size)
        for order, axes in _ORDERS.items():
            yield SpaceToDepth(size, order), tiles.transpose(axes).reshape(target)
