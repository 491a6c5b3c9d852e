"""Find PyTorch's tensors in a pickle that was read as data: each is a view of a storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.pickle_values import Call, Global, PersistentId, Value
from resnet_spec.checkpoints.formats.pickled_arrays import collect_tensors, is_mapping, parse_array
from resnet_spec.checkpoints.formats.tensors import (
    BFLOAT16,
    CheckpointError,
    Dtype,
    Tensor,
    check_total_size,
    validate_shape,
)
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

STORAGE_DTYPES: Mapping[str, Dtype] = {
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
"""The types of PyTorch's storages by class name."""

_TENSOR_FUNCTIONS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_PARAMETER_FUNCTIONS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_MAX_WRAPPERS = 4


@dataclass(slots=True)
class Storage:
    """The bytes of a storage in a file. ``crc`` is 0 if there is no checksum, or once it has been verified."""

    offset: int
    size: int
    crc: int = 0


FindStorage = Callable[[str], Storage | None]
"""Returns the storage with a key, or None if the file has no such storage."""


def parse_tensors(path: str, value: Value, find_storage: FindStorage, big_endian: bool) -> dict[str, Tensor]:
    """Return the tensors and NumPy arrays in a checkpoint's mappings. Raises CheckpointError if it is not a mapping."""
    if not is_mapping(value):
        raise CheckpointError(
            f"{path} does not hold a mapping of tensors, but {_describe(value)}; save model.state_dict() instead"
        )
    size = Path(path).stat().st_size

    def parse(name: str, value: Value) -> Tensor | None:
        return _parse_tensor(path, size, find_storage, big_endian, name, value) or parse_array(path, size, name, value)

    tensors = collect_tensors(value, parse)
    check_total_size(path, tensors, size)
    return tensors


def _describe(value: Value) -> str:
    if isinstance(value, Call) and isinstance(value.function, Global):
        return f"a {value.function}"
    return f"a {type(value).__name__}"


def _parse_tensor(
    path: str, size: int, find_storage: FindStorage, big_endian: bool, name: str, value: Value
) -> Tensor | None:
    """Return the tensor that a value represents, or None if it is not one. ``size`` is the file's."""
    rebuild = _unwrap(value)
    if rebuild is None:
        return None
    match rebuild.arguments:
        case (
            PersistentId(("storage", Global(_, kind), str(key), _, int(count), *_)),
            int(offset),
            tuple(claimed),
            tuple(strides),
            *_,
        ) if kind in STORAGE_DTYPES:
            pass
        case _:
            return None
    dtype = STORAGE_DTYPES[kind]
    storage = find_storage(key)
    if storage is None:
        raise CheckpointError(f"{path} is damaged: expected the storage {key!r} of {name!r}, found none")
    shape = validate_shape(path, name, claimed, dtype.itemsize, size)
    span = _compute_span(path, name, shape, strides)
    if storage.size < count * dtype.itemsize or not 0 <= offset <= offset + span <= count:
        raise CheckpointError(
            f"{path} is damaged: expected {offset + span:,} numbers in the storage of {name!r}, "
            f"found {storage.size // dtype.itemsize:,}"
        )
    start = storage.offset + offset * dtype.itemsize
    view = _StorageView(path, name, storage, start, span * dtype.itemsize, shape, strides, dtype, big_endian)
    return Tensor(shape, dtype, view.read)


def _unwrap(value: Value) -> Call | None:
    """Return the call that makes a tensor, without the calls around it that make a parameter or a subclass of it."""
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(value, Call) or not isinstance(value.function, Global):
            return None
        name = str(value.function)
        match value.arguments:
            case (inner, *_) if name in _PARAMETER_FUNCTIONS:
                value = inner
            case (function, _, arguments, *_) if name == "torch._tensor._rebuild_from_type_v2":
                value = Call(function, arguments)
            case _:
                return value if name in _TENSOR_FUNCTIONS else None
    return None


def _compute_span(path: str, name: str, shape: Shape, strides: tuple[Any, ...]) -> int:
    """Return how many numbers of the storage lie from a tensor's first number to its last."""
    if len(strides) != len(shape) or not all(type(stride) is int and stride >= 0 for stride in strides):
        raise CheckpointError(
            f"{path} is damaged: expected {len(shape)} strides for {name!r}, found {str(strides)[:80]}"
        )
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


@dataclass(frozen=True, slots=True)
class _StorageView:
    """A tensor as a strided view: ``size`` bytes of the file from ``offset``, and strides in numbers."""

    path: str
    name: str
    storage: Storage
    offset: int
    size: int
    shape: Shape
    strides: tuple[int, ...]
    dtype: Dtype
    big_endian: bool

    def read(self) -> Array:
        """Return the tensor in C order. Raises CheckpointError if the storage does not match its checksum."""
        data = byte_ranges.read(self.path, self.offset, self.size)
        self.check(data)
        flat = data.view(self.dtype)
        if self.big_endian:
            flat = flat.byteswap()
        strides = tuple(stride * self.dtype.itemsize for stride in self.strides)
        return np.asarray(np.lib.stride_tricks.as_strided(flat, self.shape, strides), order="C")

    def check(self, data: Array) -> None:
        """Verify the checksum of the whole storage once, however many tensors share it."""
        storage = self.storage
        if storage.crc:
            is_whole = self.size == storage.size
            found = (
                crc32(data.data) if is_whole else byte_ranges.compute_checksum(self.path, storage.offset, storage.size)
            )
            byte_ranges.check_checksum(self.path, self.name, found, storage.crc)
            storage.crc = 0
