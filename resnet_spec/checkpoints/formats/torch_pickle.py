"""PyTorch's tensors in a pickle that was read as data: a storage, and how a tensor lies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.pickle_values import Called, Named, Outside, Value
from resnet_spec.checkpoints.formats.pickled_arrays import array, mapping, named
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, CheckpointError, Dtype, Tensor, bounded, bounded_total
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

STORAGES: Mapping[str, Dtype] = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
"""PyTorch's storages of numbers by the names of their classes."""

_TENSOR = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_AROUND = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_MOST_AROUND = 4


@dataclass(slots=True)
class Stored:
    """A storage's bytes in a file, and their checksum: 0 where there is none, and once it was found right."""

    offset: int
    size: int
    crc: int = 0


Find = Callable[[str], Stored | None]
"""Where the storage of a key lies."""


def tensors(path: str, value: Value, find: Find, swapped: bool) -> dict[str, Tensor]:
    """The tensors, and NumPy's arrays, of a checkpoint's mappings; ``swapped``: bytes are big-endian. Raises CheckpointError."""
    if not mapping(value):
        raise CheckpointError(
            f"{path} holds no mapping of tensors, but {_kind(value)}; save model.state_dict() in its place"
        )
    size = Path(path).stat().st_size

    def found(name: str, value: Value) -> Tensor | None:
        return _tensor(path, size, find, swapped, name, value) or array(path, size, name, value)

    every = named(value, found)
    bounded_total(path, every, size)
    return every


def _kind(value: Value) -> str:
    """What a value is, in words."""
    if isinstance(value, Called) and isinstance(value.function, Named):
        return f"a {value.function}"
    return f"a {type(value).__name__}"


def _tensor(path: str, size: int, find: Find, swapped: bool, name: str, value: Value) -> Tensor | None:
    rebuilt = _innermost(value)
    if rebuilt is None:
        return None
    match rebuilt.arguments:
        case (
            Outside(("storage", Named(_, kind), str(key), _, int(count), *_)),
            int(offset),
            tuple(shape),
            tuple(strides),
            *_,
        ) if kind in STORAGES:
            pass
        case _:
            return None
    dtype = STORAGES[kind]
    stored = find(key)
    if stored is None:
        raise CheckpointError(f"{path} is damaged: expected the storage {key!r} of {name!r}, found none")
    fits = bounded(path, name, shape, dtype.itemsize, size)
    span = _span(path, name, fits, strides)
    if stored.size < count * dtype.itemsize or not 0 <= offset <= offset + span <= count:
        raise CheckpointError(
            f"{path} is damaged: expected {offset + span:,} numbers in the storage of {name!r}, found {stored.size // dtype.itemsize:,}"
        )
    start, long = stored.offset + offset * dtype.itemsize, span * dtype.itemsize
    return Tensor(fits, dtype, partial(_read, path, name, stored, start, long, fits, strides, dtype, swapped))


def _innermost(value: Value) -> Called | None:
    """The call that makes a tensor, within those that make it a parameter or a subclass."""
    for _ in range(_MOST_AROUND):
        if not isinstance(value, Called) or not isinstance(value.function, Named):
            return None
        name = str(value.function)
        match value.arguments:
            case (inner, *_) if name in _AROUND:
                value = inner
            case (function, _, arguments, *_) if name == "torch._tensor._rebuild_from_type_v2":
                value = Called(function, arguments)
            case _:
                return value if name in _TENSOR else None
    return None


def _span(path: str, name: str, shape: Shape, strides: tuple[Any, ...]) -> int:
    """How many numbers from a tensor's first to its last."""
    if len(strides) != len(shape) or not all(type(step) is int and step >= 0 for step in strides):
        raise CheckpointError(f"{path} is damaged: expected {len(shape)} strides for {name!r}")
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))


def _read(
    path: str,
    name: str,
    stored: Stored,
    start: int,
    long: int,
    shape: Shape,
    strides: tuple[int, ...],
    dtype: Dtype,
    swapped: bool,
) -> Array:
    data = byte_ranges.read(path, start, long)
    if stored.crc:  # a storage that several tensors share is held to it once
        whole = long == stored.size
        found = crc32(data.data) if whole else byte_ranges.checksum(path, stored.offset, stored.size)
        byte_ranges.matching(path, name, found, stored.crc)
        stored.crc = 0
    flat = data.view(dtype)
    if swapped:
        flat = flat.byteswap()
    steps = tuple(step * dtype.itemsize for step in strides)
    return np.asarray(np.lib.stride_tricks.as_strided(flat, shape, steps), order="C")
