"""Find the arrays in a pickle that was read as data: names from nested mappings, and NumPy's own arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.pickle_values import Blob, Call, Global, PairList, Value
from resnet_spec.checkpoints.formats.tensors import CheckpointError, Dtype, Tensor, validate_shape
from resnet_spec.weights.canonical import Array

_MAPPINGS = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
_DTYPES = {"f2", "f4", "f8", "u2", "i8", "i4", "i2", "i1", "u1"}
_MAX_DEPTH = 8

ParseTensor = Callable[[str, Value], Tensor | None]
"""Returns the tensor that a value represents, or None if it is not one; takes its name, for messages."""


def collect_tensors(value: Value, parse: ParseTensor) -> dict[str, Tensor]:
    """Return the tensors of nested mappings, by their keys joined by dots.

    A mapping that is referred to several times is entered once.
    """
    return dict(_iterate_tensors(value, parse, (), set()))


def _iterate_tensors(
    value: Value, parse: ParseTensor, path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[str, Tensor]]:
    if id(value) in seen or len(path) == _MAX_DEPTH:
        return
    seen.add(id(value))
    for key, item in value.items:
        if not isinstance(key, str | int):
            continue
        keys = (*path, str(key))
        if is_mapping(item):
            yield from _iterate_tensors(item, parse, keys, seen)
        else:
            tensor = parse(".".join(keys), item)
            if tensor is not None:
                yield ".".join(keys), tensor


def is_mapping(value: Value) -> bool:
    """Return whether a value is a dictionary or a subclass of it."""
    if isinstance(value, Call):
        return isinstance(value.function, Global) and str(value.function) in _MAPPINGS
    return isinstance(value, PairList)


def parse_array(path: str, size: int, name: str, value: Value) -> Tensor | None:
    """Return the NumPy array that a value represents, or None if it is not one.

    ``size`` is the file's. Raises CheckpointError if the array's shape is not valid or too large.
    """
    match value:
        case Call(Global() as function, _, _, (_, claimed, kind, fortran, data)) if str(function) in _RECONSTRUCT:
            pass
        case Call(Global() as function, (data, kind, claimed, order)) if str(function) in _FROM_BUFFER:  # protocol 5
            fortran = order == "F"
        case _:
            return None
    dtype = _parse_dtype(kind)
    if dtype is None:
        return None
    shape = validate_shape(path, name, claimed, dtype.itemsize, size)
    read = partial(_read_array, path, name, shape, dtype, bool(fortran), data)
    return Tensor(shape, dtype.newbyteorder("="), read)


def _parse_dtype(value: Value) -> Dtype | None:
    """Return a numeric NumPy type, pickled as ``dtype("f4", ...)`` with the byte order in its state."""
    match value:
        case Call(Global("numpy", "dtype"), (str(code), *_), _, (_, str(order), *_)):
            pass
        case _:
            return None
    if code not in _DTYPES or order not in "<>|=":
        return None
    return np.dtype(order + code)


def _read_array(path: str, name: str, shape: tuple[int, ...], dtype: Dtype, fortran: bool, data: Value) -> Array:
    stored = _read_bytes(path, name, data)
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(stored) != expected:
        raise CheckpointError(f"{path} is damaged: expected {expected:,} bytes for {name!r}, found {len(stored):,}")
    array = stored.view(dtype).reshape(shape, order="F" if fortran else "C")
    return np.asarray(array, dtype.newbyteorder("="), order="C")


def _read_bytes(path: str, name: str, data: Value) -> Array:
    """Return an array's bytes. Protocol 2 has no bytes and stores them as text, one character for each byte."""
    match data:
        case Call(Global("_codecs", "encode"), (text, "latin1")):
            return _read_bytes(path, name, text)
        case bytes():
            return np.frombuffer(bytearray(data), np.uint8)
        case str():
            return np.frombuffer(bytearray(_encode_latin1(path, name, data)), np.uint8)
        case Blob(offset, size, True):
            text = byte_ranges.read(path, offset, size).tobytes().decode("utf-8", "replace")
            return np.frombuffer(bytearray(_encode_latin1(path, name, text)), np.uint8)
        case Blob(offset, size, False):
            return byte_ranges.read(path, offset, size)
        case _:
            raise CheckpointError(f"{path} is damaged: expected bytes for {name!r}, found {type(data).__name__}")


def _encode_latin1(path: str, name: str, text: str) -> bytes:
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise CheckpointError(f"{path} is damaged: expected one character for each byte of {name!r}") from None
