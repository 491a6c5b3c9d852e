"""safetensors files: a JSON header of names, types and offsets, then the arrays. The canonical format."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.metadata import add_checksums, find_checksums
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
    UNKNOWN,
    Checkpoint,
    CheckpointError,
    Dtype,
    Tensor,
    add_tensor,
    describe_cause,
    make_unread,
    quote,
    validate_shape,
    view_bytes,
)
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "safetensors file"

_DTYPES: Mapping[str, Dtype] = {
    "F64": DTYPES["float64"],
    "F32": DTYPES["float32"],
    "F16": DTYPES["float16"],
    "BF16": DTYPES["bfloat16"],
    **{f"I{bits}": DTYPES[f"int{bits}"] for bits in (64, 32, 16, 8)},
    **{f"U{bits}": DTYPES[f"uint{bits}"] for bits in (64, 32, 16, 8)},
    "BOOL": DTYPES["bool"],
    "C64": DTYPES["complex64"],
    "F8_E4M3": DTYPES["float8_e4m3fn"],
    "F8_E4M3FNUZ": DTYPES["float8_e4m3fnuz"],
    "F8_E5M2": DTYPES["float8_e5m2"],
    "F8_E5M2FNUZ": DTYPES["float8_e5m2fnuz"],
    "F8_E8M0": DTYPES["float8_e8m0fnu"],
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_HEADER_LENGTH = struct.Struct("<Q")


class _StoredArray(NamedTuple):
    """Where an array is in a file, its checksum if the file has one, its shape and type, and the type's code."""

    offset: int
    size: int
    crc: int | None
    shape: Shape
    dtype: Dtype
    code: str


def read(path: str) -> Checkpoint:
    """Read the header of a file. Raises CheckpointError."""
    arrays, metadata = _locate_arrays(path)
    tensors: dict[str, Tensor] = {}
    for name, array in arrays:
        if array.dtype == UNKNOWN:
            remedy = "save it in a type that NumPy has"
            tensor: Tensor = make_unread(path, name, f"of the type {array.code}", remedy, array.shape)
        else:
            tensor = Tensor(array.shape, array.dtype, partial(_read_array, path, name, array))
        add_tensor(path, tensors, name, tensor)
    return Checkpoint(path, FORMAT, "torch", tensors, metadata)


def map_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of a file, memory-mapped, so that they may be larger than memory. Raises CheckpointError.

    They remain valid when the file is deleted. Use this only for files that no other process changes: the process is
    killed if a mapped file is truncated.
    """
    stored, _ = _locate_arrays(path)
    data = np.memmap(path, np.uint8, mode="r")
    arrays = {}
    for name, (offset, size, crc, shape, dtype, _) in stored:
        array = data[offset : offset + size]
        if crc is not None:
            byte_ranges.check_checksum(path, name, crc32(array.data), crc)
        arrays[name] = array.view(dtype).reshape(shape)
    return arrays


def _locate_arrays(path: str) -> tuple[list[tuple[str, _StoredArray]], dict[str, str]]:
    """Return the location of each array by name, and the file's metadata."""
    header, start = _read_header(path)
    metadata = header.pop("__metadata__", None) or {}
    checksums = find_checksums(path, metadata, sorted(header, key=lambda name: header[name]["data_offsets"]))
    arrays = []
    for name, item in header.items():
        code = item["dtype"]
        dtype = _DTYPES.get(code, UNKNOWN)
        begin, end = item["data_offsets"]
        shape = validate_shape(path, name, item["shape"], dtype.itemsize, end - begin)
        arrays.append((name, _StoredArray(start + begin, end - begin, checksums.get(name), shape, dtype, code)))
    return arrays, metadata


def _read_header(path: str) -> tuple[dict[str, Any], int]:
    """Return the header, after the safetensors library has validated it, and the offset of the first array."""
    size = Path(path).stat().st_size
    (length,) = _HEADER_LENGTH.unpack(byte_ranges.read(path, 0, _HEADER_LENGTH.size).tobytes())
    if not 2 <= length <= size - _HEADER_LENGTH.size:
        raise CheckpointError(
            f"{path} is not a valid safetensors file: its header claims {length:,} bytes, but the file has {size:,}"
        )
    byte_ranges.check_header_size(path, "header", length, size)
    try:
        with safe_open(path, framework="np"):
            pass
        start = _HEADER_LENGTH.size + length
        data = byte_ranges.read(path, _HEADER_LENGTH.size, length).tobytes()
        return json.loads(data, object_pairs_hook=_make_object), start
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {describe_cause(error)}") from None


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError if two of its keys are equal, since only one would be seen."""
    if len(made := dict(pairs)) != len(pairs):
        raise ValueError(f"two arrays of the same name, among {quote([key for key, _ in pairs])}")
    return made


def _read_array(path: str, name: str, array: _StoredArray) -> Array:
    data = byte_ranges.read(path, array.offset, array.size)
    if array.crc is not None:
        byte_ranges.check_checksum(path, name, crc32(data.data), array.crc)
    return data.view(array.dtype).reshape(array.shape)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file that every safetensors library opens.

    The library's own writer is not used because it needs all arrays in memory at once.
    """
    # Wide types come first, as the library writes them, so that each array starts at a multiple of its item size.
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    header, at = {}, 0
    for name in order:
        tensor = tensors[name]
        offsets = [at, at := at + tensor.nbytes]
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    checksums = [0] * len(order)
    with path.open("wb") as file:
        file.write(_encode_header(header, metadata, checksums))
        for index, name in enumerate(order):
            data = view_bytes(tensors[name].read())
            checksums[index] = crc32(data)
            file.write(data)
        file.seek(0)
        file.write(_encode_header(header, metadata, checksums))


def _encode_header(arrays: Mapping[str, object], metadata: Mapping[str, str], checksums: list[int]) -> bytes:
    """Return the header with its length in front; its size does not depend on the checksums' values."""
    header = {"__metadata__": add_checksums({"format": "pt", **metadata}, checksums), **arrays}
    data = json.dumps(header).encode()
    data += b" " * (-len(data) % 8)
    return _HEADER_LENGTH.pack(len(data)) + data
