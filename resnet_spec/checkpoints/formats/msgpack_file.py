"""Flax's msgpack files, as ``flax.serialization`` and Transformers write them: nested mappings of arrays."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.pickle_values import Blob
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
    MAX_NAME_LENGTH,
    Checkpoint,
    CheckpointError,
    Tensor,
    add_tensor,
    check_total_size,
    make_unread,
    quote,
    validate_shape,
)
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "Flax msgpack file"

Value: TypeAlias = Any
"""None, a bool, int, float, str, Blob, Pairs, list or Extension."""

MAX_INLINE = 1024
_MAX_DEPTH = 32
_VALUE_COST, _TENSOR_COST = 60, 900
_ARRAY = 1
"""Flax's code of an array: its shape, the name of its type, and its bytes, packed as a list."""
_CHUNKED = "__msgpack_chunked_array__"

_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_SIZES = {1: ">B", 2: ">H", 4: ">I"}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(slots=True, eq=False)
class Pairs:
    """A mapping as a list of its pairs."""

    items: list[tuple[Value, Value]]


@dataclass(frozen=True, slots=True)
class Extension:
    """A value of an extension type, which is left in the file."""

    code: int
    offset: int
    size: int


def starts_file(head: bytes) -> bool:
    """Return whether a file that starts so is a mapping in msgpack whose first key is a text."""
    if not head:
        return False
    skip = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x81 <= head[0] <= 0x8F else 0)
    key = head[skip : skip + 1]
    return bool(skip and key) and (0xA1 <= key[0] <= 0xBF or key[0] in _TEXTS)


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a file's arrays. Raises CheckpointError."""
    size = Path(path).stat().st_size
    budget = Budget(path, size)
    with Path(path).open("rb") as file:
        value = _Unpacker(path, file, 0, size, budget).unpack()
        if file.tell() != size:
            raise CheckpointError(f"{path} is damaged: expected the end of its msgpack data at byte {file.tell():,}")
        tensors: dict[str, Tensor] = {}
        for name, leaf in _iterate_leaves(path, value, ""):
            budget.spend(_TENSOR_COST + len(name))
            tensor = _parse_tensor(path, file, name, leaf, size, budget)
            if tensor is not None:
                add_tensor(path, tensors, name, tensor)
    check_total_size(path, tensors.values(), size)
    return Checkpoint(path, FORMAT, "linen", tensors)


class _Unpacker:
    """Reads msgpack values between two offsets of a file. Long bytes and extensions stay in the file."""

    def __init__(self, path: str, file: BinaryIO, start: int, end: int, budget: Budget) -> None:
        self.path, self.file, self.end, self.budget = path, file, end, budget
        file.seek(start)

    def unpack(self, depth: int = 0) -> Value:
        """Return the next value. Raises CheckpointError."""
        if depth > _MAX_DEPTH:
            raise CheckpointError(f"{self.path} is damaged: values nested more than {_MAX_DEPTH} levels deep")
        self.budget.spend(_VALUE_COST)
        (code,) = self.take(1)
        if code <= 0x7F or code >= 0xE0:
            return code if code <= 0x7F else code - 256
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            return self.number(_NUMBERS[code])
        if code in _TEXTS or 0xA0 <= code <= 0xBF:
            return self.text(self.number(_SIZES[_TEXTS[code]]) if code in _TEXTS else code & 31)
        if code in _BYTES:
            return self.skip(self.number(_SIZES[_BYTES[code]]))
        if code in _EXTENSIONS or code in _FIXED_EXTENSIONS:
            return self.extension(code)
        if code in _MAPS or code <= 0x8F:
            count = self.number(_SIZES[_MAPS[code]]) if code in _MAPS else code & 15
            return Pairs([(self.unpack(depth + 1), self.unpack(depth + 1)) for _ in range(count)])
        if code in _LISTS or 0x90 <= code <= 0x9F:
            count = self.number(_SIZES[_LISTS[code]]) if code in _LISTS else code & 15
            return [self.unpack(depth + 1) for _ in range(count)]
        raise CheckpointError(
            f"{self.path} is damaged: {code:#x} before byte {self.file.tell():,} starts no msgpack value"
        )

    def take(self, size: int) -> bytes:
        if size > self.end - self.file.tell():
            raise CheckpointError(f"{self.path} is truncated: expected {size:,} bytes at {self.file.tell():,}")
        return self.file.read(size)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def skip(self, size: int) -> Blob:
        offset = self.file.tell()
        if size > self.end - offset:
            raise CheckpointError(f"{self.path} is truncated: expected {size:,} bytes at {offset:,}")
        self.file.seek(size, 1)
        return Blob(offset, size, False)

    def text(self, size: int) -> str | Blob:
        if size > MAX_INLINE:
            return self.skip(size)
        self.budget.spend(4 * size)
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path} is damaged: expected text before byte {self.file.tell():,}") from None

    def extension(self, code: int) -> Extension:
        size = _FIXED_EXTENSIONS.get(code) or self.number(_SIZES[_EXTENSIONS[code]])
        kind = self.number(">b")
        blob = self.skip(size)
        return Extension(kind, blob.offset, blob.size)


def _iterate_leaves(path: str, value: Value, name: str) -> Iterator[tuple[str, Value]]:
    """Yield the extensions and the arrays in pieces of nested mappings and lists, by their keys joined by dots."""
    if isinstance(value, Extension) or (isinstance(value, Pairs) and any(key == _CHUNKED for key, _ in value.items)):
        yield name, value
        return
    items = value.items if isinstance(value, Pairs) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if not isinstance(key, str | int):
            raise CheckpointError(f"{path} is damaged: expected a text as a key, found {quote(key)}")
        inner = f"{name}.{key}" if name else str(key)
        if len(inner) > MAX_NAME_LENGTH:
            raise CheckpointError(f"{path} is damaged: a name of {len(inner):,} characters, {quote(inner)}")
        yield from _iterate_leaves(path, item, inner)


def _parse_tensor(path: str, file: BinaryIO, name: str, leaf: Value, size: int, budget: Budget) -> Tensor | None:
    if isinstance(leaf, Pairs):
        return _join_chunks(path, file, name, leaf, size, budget)
    if leaf.code != _ARRAY:  # a complex number or a NumPy scalar
        return None
    packed = _Unpacker(path, file, leaf.offset, leaf.offset + leaf.size, budget).unpack()
    match packed:
        case [list(claimed), (str() as kind), Blob() as data]:
            pass
        case [list(claimed), (str() as kind), str()]:  # written by a msgpack without a type for bytes
            return make_unread(path, name, "an array in an old msgpack", "save it by flax.serialization", ())
        case _:
            raise CheckpointError(f"{path} is damaged: expected the shape, the type and the bytes of {name!r}")
    dtype = DTYPES.get(kind)
    if dtype is None:
        shape = validate_shape(path, name, claimed, 1, None)
        return make_unread(path, name, f"an array of the type {quote(kind)}", "save it in a numeric type", shape)
    shape = validate_shape(path, name, claimed, dtype.itemsize, size)
    if math.prod(shape) * dtype.itemsize != data.size:
        raise CheckpointError(f"{path} is damaged: {name!r} claims {shape} of {dtype}, but holds {data.size:,} bytes")
    return Tensor(shape, dtype, partial(_read_array, path, data.offset, data.size, shape, dtype))


def _read_array(path: str, offset: int, size: int, shape: Shape, dtype: Any) -> Array:
    return byte_ranges.read(path, offset, size).view(dtype).reshape(shape)


def _join_chunks(path: str, file: BinaryIO, name: str, pairs: Pairs, size: int, budget: Budget) -> Tensor:
    """Return an array that Flax has cut in pieces, since msgpack bounds the size of one."""
    fields = {key: item for key, item in pairs.items if isinstance(key, str)}
    shape_value, chunks = (
        [item for _, item in value.items] if isinstance(value, Pairs) else value
        for value in (fields.get("shape"), fields.get("chunks"))
    )
    if not isinstance(chunks, list) or not chunks or not all(isinstance(chunk, Extension) for chunk in chunks):
        raise CheckpointError(f"{path} is damaged: expected the pieces of {name!r}")
    parts = [part for chunk in chunks if (part := _parse_tensor(path, file, name, chunk, size, budget)) is not None]
    if not parts or any(part.dtype != parts[0].dtype for part in parts):
        raise CheckpointError(f"{path} is damaged: expected pieces of one type of {name!r}")
    shape = validate_shape(path, name, shape_value, parts[0].dtype.itemsize, size)
    if sum(part.nbytes for part in parts) != math.prod(shape) * parts[0].dtype.itemsize:
        raise CheckpointError(f"{path} is damaged: the pieces of {name!r} do not add up to the shape {shape}")
    return Tensor(
        shape, parts[0].dtype, lambda: np.concatenate([part.read().reshape(-1) for part in parts]).reshape(shape)
    )
