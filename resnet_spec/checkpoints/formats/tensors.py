"""The contents of a checkpoint: arrays of known name, shape and type, which are read one at a time on request."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeAlias

import ml_dtypes
import numpy as np

from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

Dtype: TypeAlias = np.dtype[Any]

# NumPy has no bfloat16. The type of ml_dtypes, which JAX, ONNX and TensorFlow use too, works as the dtype of an array.
BFLOAT16: Dtype = np.dtype(ml_dtypes.bfloat16)
FLOATS: dict[str, Dtype] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}
"""The types of weights by name."""

DTYPES: Mapping[str, Dtype] = {
    **FLOATS,
    **{f"int{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    "bool": np.dtype(np.bool_),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
    **{
        name: np.dtype(getattr(ml_dtypes, name))
        for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
    },
}
"""Every type that is read, by the name that PyTorch, JAX and NumPy share."""

UNKNOWN: Dtype = np.dtype("V0")
"""Stands for the type of an array that cannot be read."""

MAX_NAME_LENGTH = 1024
"""The longest name of an array, in characters."""

MAX_REPEATED_BYTES = 2**26
"""Bytes that an array may take whose numbers are fewer in the file: compressed, or repeated by strides of zero."""

_MAX_AXES = 32
_MAX_COUNT = 2**63
_MIN_TOTAL_LIMIT = 2**28
_MAX_SHARING = 32


class CheckpointError(ValueError):
    """A file that is damaged or is not a checkpoint in a known format."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of a checkpoint. ``read`` returns it as a new array in C order and native byte order."""

    shape: Shape
    dtype: Dtype
    read: Callable[[], Array] = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """The array's size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class UnreadTensor(Tensor):
    """An array that is in the file, but can't be read: ``read`` raises CheckpointError.

    It is named, so that nobody takes the file for one without it. ``what`` says what it is, such as "a sparse tensor".
    """

    what: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's arrays by the names in the file; keys of nested mappings are joined by dots.

    Attributes:
        format: The file format, for messages.
        layout: The framework whose array layouts the format uses unless the names show another.
        metadata: What the file's writer stored about it.
        notes: What the user should know about how the file was read.
    """

    path: str
    format: str
    layout: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_unread(
    path: str, name: str, what: str, remedy: str, shape: Shape = (), dtype: Dtype = UNKNOWN
) -> UnreadTensor:
    """Return an array that can't be read because it is ``what``; ``remedy`` tells the user how to save it instead."""
    return UnreadTensor(
        shape, dtype, partial(_refuse, f"{path}: {name!r} is {what}, which is not read; {remedy}"), what
    )


def _refuse(message: str) -> NoReturn:
    raise CheckpointError(message)


def view_bytes(array: Array) -> memoryview:
    """Return an array's bytes in C order, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class _Quotation(reprlib.Repr):
    """Writes a value from a file in bounded time and length, though it may be nested, shared or long."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxtuple, self.maxlist, self.maxdict, self.maxstring = 2, 8, 8, 4, 80

    def repr_int(self, number: int, level: int) -> str:
        return repr(number) if number.bit_length() <= 128 else f"<an integer of {number.bit_length():,} bits>"

    def repr_bytes(self, data: bytes, level: int) -> str:
        return repr(data[: self.maxstring])

    def repr_instance(self, value: object, level: int) -> str:
        return repr(value) if isinstance(value, bool | float | None) else f"<{type(value).__name__}>"


_QUOTATION = _Quotation()


def quote(value: object) -> str:
    """Return a value from a file as a message quotes it, shortened.

    >>> quote((3, 4)), quote(2**1000)
    ('(3, 4)', '<an integer of 1,001 bits>')
    """
    return _QUOTATION.repr(value)


def describe_cause(error: Exception) -> str:
    """Return what another library said about a file, as a part of one line: it may quote the file."""
    return "".join(character if character.isprintable() else "?" for character in str(error)[:200])


def validate_shape(path: str, name: str, shape: object, itemsize: int, limit: int | None) -> Shape:
    """Return the shape that a file claims for an array.

    Raises CheckpointError if it is not a shape, or if the array would take more than ``limit`` bytes, if there is one.
    """
    # The number of axes and their sizes are bounded before they are multiplied.
    if (
        not isinstance(shape, tuple | list)
        or len(shape) > _MAX_AXES
        or not all(type(size) is int and 0 <= size < _MAX_COUNT for size in shape)
        or math.prod(size for size in shape if size) * max(itemsize, 1) >= _MAX_COUNT
    ):
        raise CheckpointError(f"{path} is damaged: expected a shape for {name!r}, found {quote(shape)}")
    claimed = math.prod(shape) * itemsize
    if limit is not None and claimed > limit:
        raise CheckpointError(
            f"{path} is damaged: {name!r} claims the shape {tuple(shape)}, which takes {claimed:,} bytes, "
            f"but at most {limit:,} are available"
        )
    return tuple(shape)


def limit_repeated(size: int) -> int:
    """Return how many bytes an array may take that is stored in fewer, in a file of ``size`` bytes."""
    return max(MAX_REPEATED_BYTES, 2 * size)


def check_total_size(path: str, tensors: Iterable[Tensor], size: int) -> None:
    """Raise CheckpointError if arrays that may share bytes take far more than the file's ``size``.

    A model and its averages may share most of their bytes. Without a limit, a small file takes hours to read.
    """
    total = sum(tensor.nbytes for tensor in tensors if not isinstance(tensor, UnreadTensor))
    if total > max(_MIN_TOTAL_LIMIT, _MAX_SHARING * size):
        raise CheckpointError(f"{path} is damaged: its arrays take {total:,} bytes, but the file has {size:,}")


def add_tensor(path: str, tensors: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    """Add a tensor under its name.

    Raises CheckpointError if another one has the same name, or if the name is too long or is not one printable line.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise CheckpointError(f"{path} is damaged: a name of {len(name):,} characters, {quote(name)}")
    if not name.isprintable():
        raise CheckpointError(f"{path} is damaged: expected a name of printable characters, found {quote(name)}")
    if name in tensors:
        raise CheckpointError(
            f"{path} holds two arrays that are both called {name!r} when nested names are joined by dots; rename one"
        )
    tensors[name] = tensor
