"""Find the arrays in a pickle that was read as data: names from nested mappings, and NumPy's own arrays."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.pickle_values import Blob, Call, Global, PairList, PersistentId, Value
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
    MAX_NAME_LENGTH,
    CheckpointError,
    Dtype,
    Tensor,
    add_tensor,
    make_unread,
    quote,
    validate_shape,
)
from resnet_spec.weights.canonical import Array

_MAPPINGS = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
_NDARRAY = Global("numpy", "ndarray")  # an argument of every function that makes an array of other numbers
_BYTES = {"builtins.bytes", "__builtin__.bytes"}
_CODES = {dtype.str[1:] for name, dtype in DTYPES.items() if not name.startswith(("bfloat", "float8"))}
_MODULE_FIELDS = ("_parameters", "_buffers", "_modules")
_MAX_DEPTH = 32
_CHUNK = 2**18

_TENSOR_COST, _VISIT_COST, _CONTAINER_COST = 900, 4, 60
"""Bytes of memory that a tensor's record takes beside its name, and what a look at a value, or into one, costs."""

ParseTensor = Callable[[str, Value], Tensor | None]
"""Returns the tensor that a value represents, or None if it is not one; takes its name, for messages."""


def collect_tensors(path: str, value: Value, parse: ParseTensor, budget: Budget) -> dict[str, Tensor]:
    """Return the tensors of nested mappings and lists, by their keys joined by dots.

    A PyTorch module is a mapping of its parameters, buffers and modules. An object of another class that holds tensors
    is entered as an array that can't be read. Raises CheckpointError if
    two tensors have the same name.
    """
    collector = _Collector(path, parse, budget)
    attributes = list_attributes(value)
    for mapping in [value] if attributes is None else attributes:
        collector.collect(mapping, ())
    return collector.tensors


class _Collector:
    """Walks nested mappings and lists. What is shared is entered where it is referred to, within the budget."""

    def __init__(self, path: str, parse: ParseTensor, budget: Budget) -> None:
        self.path = path
        self.parse = parse
        self.budget = budget
        self.tensors: dict[str, Tensor] = {}
        self.open: set[int] = set()
        self.empty: set[int] = set()

    def collect(self, value: Value, keys: tuple[str, ...]) -> None:
        """Collect the tensors of a mapping or a list, which is at ``keys``."""
        if id(value) in self.open or id(value) in self.empty:  # it contains itself, or no tensors
            return
        if len(keys) == _MAX_DEPTH:
            if _holds_tensor(value, self.budget):
                raise CheckpointError(f"{self.path} is damaged: tensors nested more than {_MAX_DEPTH} levels deep")
            return
        self.open.add(id(value))
        count = len(self.tensors)
        for key, item in _iterate_items(value):
            self.budget.spend(_VISIT_COST)
            if isinstance(item, PairList | Call | PersistentId | list | tuple):
                self.budget.spend(_CONTAINER_COST)
                self.collect_item((*keys, _to_name(key)), item)
        self.open.remove(id(value))
        if len(self.tensors) == count:
            self.empty.add(id(value))

    def collect_item(self, keys: tuple[str, ...], item: Value) -> None:
        length = sum(map(len, keys)) + len(keys) - 1
        if length > MAX_NAME_LENGTH:
            if isinstance(item, Call) or _holds_tensor(item, self.budget):
                raise CheckpointError(f"{self.path} is damaged: a name of {length:,} characters, {quote(keys)}")
            return
        name = ".".join(keys)
        tensor = self.parse(name, item)
        if tensor is None and (attributes := list_attributes(item)) is not None:
            for attribute in attributes:
                self.collect(attribute, keys)
            return
        if tensor is None and (is_mapping(item) or isinstance(item, list | tuple)):
            self.collect(item, keys)
            return
        if tensor is None and _holds_tensor(item, self.budget):
            tensor = make_unread(self.path, name, describe(item), "save its state_dict() instead")
        if tensor is not None:
            self.budget.spend(_TENSOR_COST + len(name))
            add_tensor(self.path, self.tensors, name, tensor)


def list_attributes(value: Value) -> list[Value] | None:
    """Return the mappings that hold the tensors of a PyTorch module or a TorchScript object; None for other values."""
    if not isinstance(value, Call) or not isinstance(value.state, PairList):
        return None
    if isinstance(value.function, Global) and value.function.module.startswith("__torch__"):
        return [value.state]
    fields = {key: item for key, item in value.state.items if isinstance(key, str)}
    if not fields.keys() >= set(_MODULE_FIELDS):
        return None
    return [fields[key] for key in _MODULE_FIELDS if is_mapping(fields[key])]


def _iterate_items(value: Value) -> Iterator[tuple[Value, Value]]:
    """Return the pairs of a mapping, or the items of a list with their indices."""
    if isinstance(value, list | tuple):
        return enumerate(value)
    if isinstance(value, Call) and not value.items:  # Python 2 passes the pairs of an OrderedDict as an argument
        match value.arguments:
            case (list(pairs),) if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                return iter([(key, item) for key, item in pairs])
    return iter(value.items)


def _to_name(key: Value) -> str:
    """Return a key as part of a name. Flattened states have tuples as keys, and Python 2's names may be bytes."""
    match key:
        case str():
            return key
        case bytes():
            return key.decode("utf-8", "backslashreplace")
        case tuple() if len(key) <= _MAX_DEPTH and all(isinstance(part, str | int) for part in key):
            return ".".join(map(str, key))
        case Blob():
            return "?" * (MAX_NAME_LENGTH + 1)
        case _:
            return str(key) if isinstance(key, int) else quote(key)


def _holds_tensor(value: Value, budget: Budget) -> bool:
    """Return whether a tensor is anywhere in a value."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        budget.spend(_VISIT_COST)
        if isinstance(value, PersistentId) or _is_array(value):
            return True
        if isinstance(value, PairList | Call | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            stack += _list_parts(value)
    return False


def _list_parts(value: PairList | Call | list[Value] | tuple[Value, ...]) -> list[Value]:
    if isinstance(value, list | tuple):
        return list(value)
    parts = [item for _, item in value.items]
    return [*parts, value.arguments, value.state] if isinstance(value, Call) else parts


def _is_array(value: Value) -> bool:
    if isinstance(value, Call) and isinstance(value.function, Global):
        return str(value.function) in _RECONSTRUCT | _FROM_BUFFER
    return value == _NDARRAY


def is_mapping(value: Value) -> bool:
    """Return whether a value is a dictionary or an object of a subclass of it, which has items."""
    if isinstance(value, Call):
        return bool(value.items) or (isinstance(value.function, Global) and str(value.function) in _MAPPINGS)
    return isinstance(value, PairList)


def describe(value: Value) -> str:
    """Return what a value that is not a tensor is, for messages."""
    if isinstance(value, Call) and isinstance(value.function, Global):
        match value.arguments:
            case (Global() as kind, *_) if value.function.module.startswith(("copy", "torch._")):
                return f"an object of {kind}"
        return f"an object of {value.function}"
    return {PairList: "a dict", PersistentId: "a storage"}.get(type(value), f"a {type(value).__name__}")


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
        shape = validate_shape(path, name, claimed, 1, None)
        return make_unread(path, name, f"an array of {_describe_dtype(kind)}", "save it in a numeric type", shape)
    shape = validate_shape(path, name, claimed, dtype.itemsize, size)
    read = partial(_read_array, path, name, shape, dtype, bool(fortran), data)
    return Tensor(shape, dtype.newbyteorder("="), read)


def _parse_dtype(value: Value) -> Dtype | None:
    """Return a numeric NumPy type, pickled as ``dtype("f4", ...)`` with the byte order in its state."""
    match value:
        case Call(Global("numpy", "dtype"), (Global("ml_dtypes", code), *_)):
            return DTYPES.get(code)
        case Call(Global("numpy", "dtype"), (str(code), *_), _, (_, "<" | ">" | "|" | "=" as order, *_)):
            return np.dtype(f"{order}{code}") if code in _CODES else None
    return None


def _describe_dtype(value: Value) -> str:
    match value:
        case Call(Global("numpy", "dtype"), (str(code), *_)):
            return f"NumPy's type {quote(code)}"
        case Call(Global("numpy", "dtype"), (Global() as kind, *_)):
            return str(kind)[:80]
    return "a type that is not known"


def _read_array(path: str, name: str, shape: tuple[int, ...], dtype: Dtype, fortran: bool, data: Value) -> Array:
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    stored = _read_bytes(path, name, data, expected)
    if len(stored) != expected:
        raise CheckpointError(f"{path} is damaged: expected {expected:,} bytes for {name!r}, found {len(stored):,}")
    array = stored.view(dtype).reshape(shape, order="F" if fortran else "C")
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return np.asarray(array, order="C")


def _read_bytes(path: str, name: str, data: Value, expected: int) -> Array:
    """Return an array's bytes. Protocol 2 has no bytes and stores them as text, one character for each byte."""
    match data:
        case Call(Global("_codecs", "encode"), (str() | Blob(_, _, True) as text, "latin1")):
            return _read_bytes(path, name, text, expected)
        case Call(Global() as function, ()) if str(function) in _BYTES:  # protocol 2's empty bytes
            return np.empty(0, np.uint8)
        case bytes():
            return np.frombuffer(bytearray(data), np.uint8)
        case str():
            return np.frombuffer(bytearray(_encode_latin1(path, name, data)), np.uint8)
        case Blob(offset, size, True):
            return _read_text(path, name, offset, size, expected)
        case Blob(offset, size, False):
            return byte_ranges.read(path, offset, size)
        case _:
            raise CheckpointError(f"{path} is damaged: expected bytes for {name!r}, found {describe(data)}")


def _read_text(path: str, name: str, offset: int, size: int, expected: int) -> Array:
    """Return the bytes that a long text in the file stands for, holding one piece of the text at a time."""
    array = np.empty(expected, np.uint8)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at = 0
    for start in range(offset, offset + size, _CHUNK):
        count = min(_CHUNK, offset + size - start)
        text = decoder.decode(byte_ranges.read(path, start, count).tobytes(), start + count == offset + size)
        piece = _encode_latin1(path, name, text)
        if at + len(piece) > expected:
            raise CheckpointError(f"{path} is damaged: expected {expected:,} bytes for {name!r}, found more")
        array[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return array[:at]


def _encode_latin1(path: str, name: str, text: str) -> bytes:
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise CheckpointError(f"{path} is damaged: expected one character for each byte of {name!r}") from None
