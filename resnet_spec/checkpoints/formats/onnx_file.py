"""ONNX models: the initialisers of the graph, found in the protocol buffer without a framework."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
    MAX_NAME_LENGTH,
    Checkpoint,
    CheckpointError,
    Dtype,
    Tensor,
    add_tensor,
    check_total_size,
    make_unread,
    quote,
    validate_shape,
)
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "ONNX model"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER = 7, 5
_FLOATS, _DOUBLES = 4, 10
_TYPES: dict[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
}
_FIELD_COST, _TENSOR_COST = 60, 900
_MAX_FIELDS = 64


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a message: its number, and its value or, for bytes, where they are."""

    number: int
    value: int
    offset: int = 0
    size: int = 0


@dataclass(slots=True)
class _Initializer:
    """What a TensorProto says."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    data: _Field | None = None
    is_external: bool = False


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a model's initialisers. Raises CheckpointError."""
    size = Path(path).stat().st_size
    tensors: dict[str, Tensor] = {}
    with Path(path).open("rb") as file:
        reader = _MessageReader(path, file, Budget(path, size))
        graphs = [item for item in reader.fields(0, size) if item.number == _GRAPH and item.size]
        if len(graphs) != 1:
            raise CheckpointError(
                f"{path} is a protocol buffer, as ONNX and TensorFlow write, but not an ONNX model: it has no graph"
            )
        for item in reader.fields(graphs[0].offset, graphs[0].offset + graphs[0].size):
            if item.number == _INITIALIZER:
                initializer = reader.parse_initializer(item)
                add_tensor(path, tensors, initializer.name, _make_tensor(path, size, initializer))
    check_total_size(path, tensors.values(), size)
    return Checkpoint(path, FORMAT, "torch", tensors)


class _MessageReader:
    """Reads the fields of protocol buffer messages in a file. Bytes stay in the file."""

    def __init__(self, path: str, file: BinaryIO, budget: Budget) -> None:
        self.path, self.file, self.budget = path, file, budget

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """Yield the fields between two offsets. Raises CheckpointError if they do not end there."""
        at = start
        while at < end:
            self.budget.spend(_FIELD_COST)
            self.file.seek(at)
            key = self.varint(end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                item = _Field(number, self.varint(end))
                at = self.file.tell()
            elif wire in (_BYTES, _FIXED64, _FIXED32):
                count = self.varint(end) if wire == _BYTES else 8 if wire == _FIXED64 else 4
                item = _Field(number, 0, self.file.tell(), count)
                at = item.offset + count
            else:
                raise self.damage(at)
            if at > end or not number:
                raise self.damage(at)
            yield item

    def varint(self, end: int) -> int:
        """Return a number of up to ten bytes, of seven bits each."""
        value = 0
        for shift in range(0, 70, 7):
            data = self.file.read(1) if self.file.tell() < end else b""
            if not data:
                break
            value |= (data[0] & 127) << shift
            if data[0] < 128:
                return value
        raise self.damage(self.file.tell())

    def damage(self, at: int) -> CheckpointError:
        return CheckpointError(f"{self.path} is damaged: expected a field of a protocol buffer before byte {at:,}")

    def parse_initializer(self, item: _Field) -> _Initializer:
        """Return what a TensorProto says."""
        result = _Initializer()
        self.budget.spend(_TENSOR_COST)
        for inner in self.fields(item.offset, item.offset + item.size):
            match inner.number:
                case 1 if inner.size:  # _DIMS, packed
                    result.dims += self.unpack_dims(inner)
                case 1:
                    result.dims.append(inner.value)
                case 2:  # _TYPE
                    result.kind = inner.value
                case 8:  # _NAME
                    result.name = self.read_name(inner)
                case 14:  # _LOCATION
                    result.is_external = bool(inner.value)
                case 4 | 9 | 10 if inner.size and result.data is None:  # _FLOATS, _RAW, _DOUBLES
                    result.data = inner
            if len(result.dims) > _MAX_FIELDS:
                raise self.damage(item.offset)
        return result

    def unpack_dims(self, item: _Field) -> list[int]:
        end = item.offset + item.size
        dims: list[int] = []
        self.file.seek(item.offset)
        while self.file.tell() < end and len(dims) <= _MAX_FIELDS:
            dims.append(self.varint(end))
        return dims

    def read_name(self, item: _Field) -> str:
        self.budget.spend(min(item.size, MAX_NAME_LENGTH))
        if item.size > 4 * MAX_NAME_LENGTH:
            raise CheckpointError(f"{self.path} is damaged: a name of {item.size:,} bytes")
        self.file.seek(item.offset)
        name = self.file.read(item.size).decode("utf-8", "replace")
        if len(name) > MAX_NAME_LENGTH:  # before the name is in a message
            raise CheckpointError(f"{self.path} is damaged: a name of {len(name):,} characters, {quote(name)}")
        return name


def _make_tensor(path: str, size: int, item: _Initializer) -> Tensor:
    dtype = DTYPES.get(_TYPES.get(item.kind, ""))
    if dtype is None or item.is_external:
        what = "an array in another file" if item.is_external else f"an array of ONNX's type {item.kind}"
        remedy = (
            "save the model with all arrays in one file" if item.is_external else "save it in a type that NumPy has"
        )
        return make_unread(path, item.name, what, remedy, validate_shape(path, item.name, item.dims, 1, None))
    shape = validate_shape(path, item.name, item.dims, dtype.itemsize, size)
    expected = math.prod(shape) * dtype.itemsize
    if item.data is not None and _width(item.data) not in (0, dtype.itemsize):
        return make_unread(path, item.name, "an array in a list of other numbers", "save it as raw data", shape)
    held = item.data.size if item.data else 0
    if held != expected:
        if item.data is None:
            return make_unread(path, item.name, "an array in a list of integers", "save it as raw data", shape)
        raise CheckpointError(f"{path} is damaged: {item.name!r} claims {shape} of {dtype}, but holds {held:,} bytes")
    return Tensor(
        shape, dtype, partial(_read_array, path, item.data.offset if item.data else 0, expected, shape, dtype)
    )


def _width(data: _Field) -> int:
    """Return the bytes of each number in a list of numbers, and 0 for raw data."""
    return {_FLOATS: 4, _DOUBLES: 8}.get(data.number, 0)


def _read_array(path: str, offset: int, size: int, shape: Shape, dtype: Dtype) -> Array:
    if not size:
        return np.empty(shape, dtype)
    return byte_ranges.read(path, offset, size).view(dtype).reshape(shape)
