"""NumPy's arrays in a pickle that was read as data, and the names under which mappings hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.pickle_values import Blob, Called, Named, Pairs, Value
from resnet_spec.checkpoints.formats.tensors import CheckpointError, Dtype, Tensor, bounded
from resnet_spec.weights.canonical import Array

_MAPPINGS = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
_DEEPEST = 8

Find = Callable[[str, Value], Tensor | None]
"""The tensor that a value stands for, if it is one; the name is for messages."""


def named(value: Value, find: Find) -> dict[str, Tensor]:
    """The tensors of nested mappings, by names joined with dots. Each mapping counts once, wherever else it is named."""
    return dict(_named(value, find, (), set()))


def _named(value: Value, find: Find, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if id(value) in seen or len(path) == _DEEPEST:
        return
    seen.add(id(value))
    for key, item in value.items:
        if not isinstance(key, str | int):
            continue
        inner = (*path, str(key))
        if mapping(item):
            yield from _named(item, find, inner, seen)
        else:
            tensor = find(".".join(inner), item)
            if tensor is not None:
                yield ".".join(inner), tensor


def mapping(value: Value) -> bool:
    """Whether a value is a dictionary of some kind."""
    if isinstance(value, Called):
        return isinstance(value.function, Named) and str(value.function) in _MAPPINGS
    return isinstance(value, Pairs)


def array(path: str, size: int, name: str, value: Value) -> Tensor | None:
    """The NumPy array that a value stands for, if it is one. ``size`` is the file's. Raises CheckpointError."""
    match value:
        case Called(Named() as function, _, _, (_, claimed, kind, fortran, data)) if str(function) in _RECONSTRUCT:
            pass
        case Called(Named() as function, (data, kind, claimed, order)) if str(function) in _FROM_BUFFER:  # protocol 5
            fortran = order == "F"
        case _:
            return None
    dtype = _dtype(kind)
    if dtype is None:
        return None
    shape = bounded(path, name, claimed, dtype.itemsize, size)
    return Tensor(shape, dtype.newbyteorder("="), partial(_array, path, name, shape, dtype, bool(fortran), data))


def _dtype(value: Value) -> Dtype | None:
    """A NumPy type of numbers: ``dtype("f4", ...)`` with the byte order as its state."""
    match value:
        case Called(Named("numpy", "dtype"), (str(word), *_), _, (_, str(order), *_)):
            pass
        case _:
            return None
    if word not in {"f2", "f4", "f8", "u2", "i8", "i4", "i2", "i1", "u1"} or order not in "<>|=":
        return None
    return np.dtype(order + word)


def _array(path: str, name: str, shape: tuple[int, ...], dtype: Dtype, fortran: bool, data: Value) -> Array:
    raw = _bytes(path, name, data)
    wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(raw) != wanted:
        raise CheckpointError(f"{path} is damaged: expected {wanted:,} bytes for {name!r}, found {len(raw):,}")
    found = raw.view(dtype).reshape(shape, order="F" if fortran else "C")
    return np.asarray(found, dtype.newbyteorder("="), order="C")


def _bytes(path: str, name: str, data: Value) -> Array:
    """An array's bytes. A pickle of protocol 2 has no bytes, so there they are text, one character a byte."""
    match data:
        case Called(Named("_codecs", "encode"), (text, "latin1")):
            return _bytes(path, name, text)
        case bytes():
            return np.frombuffer(bytearray(data), np.uint8)
        case str():
            return np.frombuffer(bytearray(_characters(path, name, data)), np.uint8)
        case Blob(offset, size, True):
            text = byte_ranges.read(path, offset, size).tobytes().decode("utf-8", "replace")
            return np.frombuffer(bytearray(_characters(path, name, text)), np.uint8)
        case Blob(offset, size, False):
            return byte_ranges.read(path, offset, size)
        case _:
            raise CheckpointError(f"{path} is damaged: expected bytes for {name!r}, found {type(data).__name__}")


def _characters(path: str, name: str, text: str) -> bytes:
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise CheckpointError(f"{path} is damaged: expected one character for each byte of {name!r}") from None
