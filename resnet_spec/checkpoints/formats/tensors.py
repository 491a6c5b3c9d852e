"""The contents of a checkpoint: arrays of known name, shape and type, which are read one at a time on request."""

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

# NumPy has no bfloat16. The type of ml_dtypes, which JAX, ONNX and TensorFlow use too, works as the dtype of an array.
BFLOAT16: Dtype = np.dtype(ml_dtypes.bfloat16)
FLOATS: dict[str, Dtype] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}
"""The types of weights by name."""

_MAX_AXES = 32


class CheckpointError(ValueError):
    """A file that is damaged or is not a checkpoint in a known format."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of a checkpoint. ``read`` returns it as a new array in C order and native byte order."""

    shape: Shape
    dtype: Dtype
    read: Callable[[], Array] = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """The array's size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's arrays by the names in the file; keys of nested mappings are joined by dots.

    Attributes:
        format: The file format, for messages.
        layout: The framework whose array layouts the format uses unless the names show another.
        metadata: What the file's writer stored about it.
        notes: What the user should know about how the file was read.
    """

    path: str
    format: str
    layout: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def view_bytes(array: Array) -> memoryview:
    """Return an array's bytes in C order, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def validate_shape(path: str, name: str, shape: object, itemsize: int, limit: int) -> Shape:
    """Return the shape that a file claims for an array.

    Raises CheckpointError if it is not a shape, or if the array would take more than ``limit`` bytes.
    """
    if not isinstance(shape, tuple | list) or not all(type(size) is int and size >= 0 for size in shape):
        raise CheckpointError(f"{path} is damaged: expected a shape for {name!r}, found {str(shape)[:80]}")
    claimed = math.prod(shape) * itemsize
    if claimed > limit or len(shape) > _MAX_AXES:
        raise CheckpointError(
            f"{path} is damaged: {name!r} claims the shape {str(tuple(shape))[:80]}, which takes {claimed:,} bytes, "
            f"but at most {limit:,} are available"
        )
    return tuple(shape)


def check_total_size(path: str, tensors: Mapping[str, Tensor], size: int) -> None:
    """Raise CheckpointError if arrays that may share bytes add up to more than twice the file's ``size``."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > 2 * size:
        raise CheckpointError(f"{path} is damaged: its arrays take {total:,} bytes, but the file has {size:,}")
