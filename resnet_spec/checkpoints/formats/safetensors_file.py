"""safetensors files: a header of names, types and places, then the arrays. The canonical format."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from resnet_spec.checkpoints.formats import byte_ranges, metadata
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, Checkpoint, CheckpointError, Dtype, Tensor, raw
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "safetensors file"

_DTYPES: Mapping[str, Dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_LENGTH = struct.Struct("<Q")


def read(path: str) -> Checkpoint:
    """The arrays of a file. Raises CheckpointError."""
    places, said = _places(path)
    tensors = {name: Tensor(place.shape, place.dtype, partial(_read, path, name, place)) for name, place in places}
    return Checkpoint(path, FORMAT, "torch", tensors, said)


def mapped(path: str) -> dict[str, Array]:
    """The arrays of a file as views of it, which stay when it is removed: more than memory holds. Raises CheckpointError.

    For files that nobody else changes: one that is cut short while it is mapped kills the process.
    """
    places, _ = _places(path)
    data = np.memmap(path, np.uint8, mode="r")
    found = {}
    for name, place in places:
        array = data[place.offset : place.offset + place.size]
        if place.crc is not None:
            byte_ranges.matching(path, name, crc32(array.data), place.crc)
        found[name] = array.view(place.dtype).reshape(place.shape)
    return found


class _Place(NamedTuple):
    """Where an array lies in a file, and what it is."""

    offset: int
    size: int
    crc: int | None
    shape: Shape
    dtype: Dtype


def _places(path: str) -> tuple[list[tuple[str, _Place]], dict[str, str]]:
    """Where each array is, of those whose types are known, and what the file says of itself."""
    header, start = _header(path)
    said = header.pop("__metadata__", {})
    expected = metadata.checksums(said, sorted(header, key=lambda name: header[name]["data_offsets"]))
    places = []
    for name, item in header.items():
        dtype = _DTYPES.get(item["dtype"])
        if dtype is not None:
            begin, end = item["data_offsets"]
            places.append((name, _Place(start + begin, end - begin, expected.get(name), tuple(item["shape"]), dtype)))
    return places, said


def _header(path: str) -> tuple[dict[str, Any], int]:
    """The header, once the library has found it sound, and where the arrays start."""
    size = Path(path).stat().st_size
    (length,) = _LENGTH.unpack(byte_ranges.read(path, 0, _LENGTH.size).tobytes())
    if not 2 <= length <= size - _LENGTH.size:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: its header claims {length:,} bytes, the file has {size:,}"
        )
    byte_ranges.in_proportion(path, "header", length, size)
    try:
        with safe_open(path, framework="np"):
            pass
        start = _LENGTH.size + length
        return json.loads(byte_ranges.read(path, _LENGTH.size, length).tobytes()), start
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None


def _read(path: str, name: str, place: _Place) -> Array:
    data = byte_ranges.read(path, place.offset, place.size)
    if place.crc is not None:
        byte_ranges.matching(path, name, crc32(data.data), place.crc)
    return data.view(place.dtype).reshape(place.shape)


def write(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """A file that every safetensors library opens. The library's own writer needs all arrays in memory at once."""
    # Larger numbers first, as the library does: each then starts at a multiple of its size.
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    header, at = {}, 0
    for name in order:
        tensor = tensors[name]
        place = [at, at := at + tensor.nbytes]
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
    sums = ["0" * 8] * len(order)
    with path.open("wb") as file:
        file.write(_start(header, said, sums))
        for index, name in enumerate(order):
            data = raw(tensors[name].read())
            sums[index] = f"{crc32(data):08x}"
            file.write(data)
        file.seek(0)
        file.write(_start(header, said, sums))


def _start(header: Mapping[str, object], said: Mapping[str, str], sums: list[str]) -> bytes:
    """The header's length and the header, as long whatever the checksums are."""
    every = {"__metadata__": {"format": "pt", **said, metadata.CHECKSUMS: "".join(sums)}, **header}
    data = json.dumps(every).encode()
    data += b" " * (-len(data) % 8)
    return _LENGTH.pack(len(data)) + data
