"""Recognise what a mean, a maximum or a sum over axes is among our operations."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from resnet_spec.importing.rearrangements import Index, is_identity
from resnet_spec.ops import ChannelAvgPool, ChannelMaxPool, GlobalAvgPool, GlobalMaxPool, Op, Shape, SplitSum

Reduction: TypeAlias = Literal["mean", "max", "sum"]


def reduction_op(kind: Reduction, index: Index, shape: Shape, axes: tuple[int, ...]) -> Op | None:
    """Return the operation on a map that reduces axes of what indices show of it, or None."""
    is_whole = index.size == np.prod(shape)
    if len(shape) == 3 and kind != "sum" and is_whole:
        moved = np.moveaxis(index, axes, tuple(range(-len(axes), 0)))
        if moved.shape[: -len(axes)] == shape[:1] and is_identity(moved.reshape(shape), shape):  # all but the channels
            return (GlobalAvgPool if kind == "mean" else GlobalMaxPool)(keepdims=True)
        first = np.moveaxis(index, axes[0], 0)
        if len(axes) == 1 and len(first) == shape[0] and is_identity(first.reshape(shape), shape):
            return (ChannelAvgPool if kind == "mean" else ChannelMaxPool)()
    if kind == "sum" and axes == (0,) and is_whole and is_identity(index.reshape(-1), (index.size,)):
        return SplitSum(len(index))
    return None
