"""What a checkpoint holds: arrays whose names, shapes and types are known, and that are read one at a time when asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

Dtype: TypeAlias = np.dtype[Any]

# NumPy has no bfloat16 of its own; ml_dtypes, which JAX, ONNX and TensorFlow share, registers one, so arrays keep their type.
BFLOAT16: Dtype = np.dtype(ml_dtypes.bfloat16)
FLOATS: dict[str, Dtype] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}
"""The types that weights may have, by name."""


class CheckpointError(ValueError):
    """A file that is damaged, or holds no checkpoint that is known: what was expected, and what was found."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of a checkpoint. ``read`` gives it, in C order and native bytes, as memory of the caller's own."""

    shape: Shape
    dtype: Dtype
    read: Callable[[], Array] = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file's arrays by name, as it names them; names of nested mappings are joined by dots.

    Attributes:
        format: What kind of file it is, in words.
        layout: The framework in whose layouts such a file keeps arrays, unless its names say otherwise.
        metadata: What whoever wrote the file said of it.
        notes: What a user should be told of how it was read.
    """

    path: str
    format: str
    layout: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def raw(array: Array) -> memoryview:
    """An array's bytes, in C order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def bounded(path: str, name: str, shape: object, itemsize: int, most: int) -> Shape:
    """A shape that a file claims for an array, if it is one and takes no more than ``most`` bytes. Raises CheckpointError."""
    if not isinstance(shape, tuple | list) or not all(type(size) is int and size >= 0 for size in shape):
        raise CheckpointError(f"{path} is damaged: expected a shape for {name!r}, found {str(shape)[:80]}")
    claimed = math.prod(shape) * itemsize
    if claimed > most or len(shape) > 32:
        raise CheckpointError(
            f"{path} is damaged: {name!r} claims the shape {str(tuple(shape))[:80]}, which is {claimed:,} bytes, where {most:,} are held"
        )
    return tuple(shape)


def bounded_total(path: str, tensors: Mapping[str, Tensor], size: int) -> None:
    """Raises CheckpointError if arrays that share their bytes come to more than twice the file."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > 2 * size:
        raise CheckpointError(f"{path} is damaged: its arrays come to {total:,} bytes, but the file holds {size:,}")
