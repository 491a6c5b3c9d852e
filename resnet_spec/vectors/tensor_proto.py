"""Write an array as ONNX's TensorProto, the form of the inputs and outputs in its backend tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnet_spec.weights.canonical import Array

_DTYPES = {"float32": 1, "float64": 11}
"""The numbers of types in ONNX."""

_VARINT, _BYTES = 0, 2
"""The kinds of a field in a protobuf message."""


def encode_tensor(name: str, array: Array) -> bytes:
    """Return an array in float32 or float64 as a serialized TensorProto."""
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    fields = [
        *(_encode_key(1, _VARINT) + _encode_varint(size) for size in array.shape),
        _encode_key(2, _VARINT) + _encode_varint(_DTYPES[array.dtype.name]),
        _encode_bytes(8, name.encode()),
        _encode_bytes(9, np.ascontiguousarray(little_endian).tobytes()),
    ]
    return b"".join(fields)


def _encode_bytes(field: int, data: bytes) -> bytes:
    return _encode_key(field, _BYTES) + _encode_varint(len(data)) + data


def _encode_key(field: int, kind: int) -> bytes:
    return _encode_varint(field << 3 | kind)


def _encode_varint(value: int) -> bytes:
    return bytes(_split_varint(value))


def _split_varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
