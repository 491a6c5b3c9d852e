"""Find PyTorch's tensors in a pickle that was read as data: each is a view of a storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.pickle_values import Call, Global, PairList, PersistentId, Value
from resnet_spec.checkpoints.formats.pickled_arrays import (
    collect_tensors,
    describe,
    is_mapping,
    list_attributes,
    parse_array,
)
from resnet_spec.checkpoints.formats.tensors import (
    BFLOAT16,
    DTYPES,
    UNKNOWN,
    CheckpointError,
    Dtype,
    Tensor,
    UnreadTensor,
    check_total_size,
    limit_repeated,
    make_unread,
    quote,
    validate_shape,
)
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

STORAGE_DTYPES: Mapping[str, Dtype] = {
    "DoubleStorage": DTYPES["float64"],
    "FloatStorage": DTYPES["float32"],
    "HalfStorage": DTYPES["float16"],
    "BFloat16Storage": DTYPES["bfloat16"],
    "LongStorage": DTYPES["int64"],
    "IntStorage": DTYPES["int32"],
    "ShortStorage": DTYPES["int16"],
    "CharStorage": DTYPES["int8"],
    "ByteStorage": DTYPES["uint8"],
    "BoolStorage": DTYPES["bool"],
    "ComplexFloatStorage": DTYPES["complex64"],
    "ComplexDoubleStorage": DTYPES["complex128"],
}
"""The types of PyTorch's storages by class name."""

ITEM_SIZES: Mapping[str, int] = {
    **{name: dtype.itemsize for name, dtype in STORAGE_DTYPES.items()},
    "UntypedStorage": 1,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "QInt32Storage": 4,
}
"""The bytes of an item of each storage, also of those whose items are not read."""

_DEVICE_TENSORS = {
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_xla_tensor",
}
_MAX_WRAPPERS = 4


@dataclass(slots=True)
class Storage:
    """The bytes of a storage in a file. ``crc`` is 0 if there is no checksum, or once it has been verified."""

    offset: int
    size: int
    crc: int = 0


FindStorage = Callable[[str], Storage | None]
"""Returns the storage with a key, or None if the file has no such storage."""


def parse_tensors(
    path: str, value: Value, find_storage: FindStorage, big_endian: bool, budget: Budget
) -> dict[str, Tensor]:
    """Return the tensors and NumPy arrays in a checkpoint's mappings. Raises CheckpointError if it is not a mapping."""
    if not is_mapping(value) and list_attributes(value) is None:
        raise CheckpointError(
            f"{path} does not hold a mapping of tensors, but {describe(value)}; save model.state_dict() instead"
        )
    size = Path(path).stat().st_size
    tensors = collect_tensors(path, value, _TensorParser(path, size, find_storage, big_endian).parse, budget)
    check_total_size(path, tensors.values(), size)
    return tensors


def describe_module(value: Value) -> tuple[str, ...]:
    """Return a note if a file holds a whole module, whose class and code are not looked at; () otherwise."""
    if list_attributes(value) is None:
        return ()
    return (f"it holds {describe(value)}, of which the arrays are read, and none of its code is run",)


def parse_tensor(path: str, name: str, value: Value, find_storage: FindStorage) -> Tensor | None:
    """Return the one tensor that a pickle holds, or None if it holds something else. Raises CheckpointError."""
    return _TensorParser(path, Path(path).stat().st_size, find_storage, False).parse(name, value)


@dataclass(frozen=True, slots=True)
class _View:
    """What the pickle says about a tensor: a storage, the first number's place in it, shape and strides."""

    storage: Value
    offset: Value
    shape: Value
    strides: Value
    dtype: Dtype | None = None
    flags: Value = None


@dataclass(frozen=True, slots=True)
class _TensorParser:
    """Recognizes the calls by which PyTorch rebuilds tensors. ``size`` is the file's."""

    path: str
    size: int
    find_storage: FindStorage
    big_endian: bool

    def parse(self, name: str, value: Value) -> Tensor | None:
        """Return the tensor that a value represents, or None if it is not one."""
        for _ in range(_MAX_WRAPPERS):
            if not isinstance(value, Call) or not isinstance(value.function, Global):
                return None
            inner = _unwrap(value)
            if inner is None:
                break
            value = inner
        function = value.function
        if function.module in ("torch._utils", "torch._tensor") and function.name.startswith("_rebuild"):
            return self.parse_call(name, function.name, value.arguments)
        return parse_array(self.path, self.size, name, value)

    def parse_call(self, name: str, function: str, arguments: Value) -> Tensor:
        """Return the tensor that one of PyTorch's functions makes."""
        match (function, arguments):
            case ("_rebuild_tensor" | "_rebuild_tensor_v2", (storage, offset, shape, strides, *rest)):
                return self.parse_view(
                    name, _View(storage, offset, shape, strides, flags=rest[2] if rest[2:] else None)
                )
            case ("_rebuild_tensor_v3", (storage, offset, shape, strides, _, _, Global(_, kind), *rest)):
                dtype = DTYPES.get(kind, UNKNOWN)
                return self.parse_view(name, _View(storage, offset, shape, strides, dtype, rest[0] if rest else None))
            case (_, (data, Global(_, kind), *_)) if function in _DEVICE_TENSORS and kind in DTYPES:
                return self.parse_device_tensor(name, data, DTYPES[kind])
            case ("_rebuild_meta_tensor_no_storage", (Global(_, kind), shape, *_)):
                return self.make_unread(name, "a tensor on the meta device, which has no numbers", shape, kind)
            case ("_rebuild_sparse_tensor", (_, tuple(parts))):
                sizes = [part for part in map(_to_tuple, parts) if isinstance(part, tuple)]
                return self.make_unread(name, "a sparse tensor", sizes[-1] if sizes else (), "", "save its to_dense()")
            case ("_rebuild_qtensor", (_, _, shape, *_)):
                return self.make_unread(name, "a quantised tensor", shape, "", "save its dequantize()")
            case ("_rebuild_wrapper_subclass", (Global() as kind, Global(_, dtype), shape, *_)):
                remedy = "gather it by full_tensor() before it is saved"
                return self.make_unread(name, f"a tensor of the class {kind}", shape, dtype, remedy)
        return self.make_unread(name, f"what torch's function {quote(function)} makes", ())

    def make_unread(
        self, name: str, what: str, shape: Value, dtype: str = "", remedy: str = "save an ordinary tensor instead"
    ) -> Tensor:
        shape = validate_shape(self.path, name, _to_tuple(shape), 1, None)
        return make_unread(self.path, name, what, remedy, shape, DTYPES.get(dtype, UNKNOWN))

    def parse_device_tensor(self, name: str, data: Value, dtype: Dtype) -> Tensor:
        """Return a tensor of another device, which is stored as an array or as a tensor in a type that NumPy has."""
        tensor = self.parse(name, data)
        if tensor is None:
            raise CheckpointError(f"{self.path} is damaged: expected the numbers of {name!r}, found {describe(data)}")
        if isinstance(tensor, UnreadTensor) or tensor.dtype == dtype:
            return tensor
        return Tensor(tensor.shape, dtype, lambda: tensor.read().astype(dtype))

    def parse_view(self, name: str, view: _View) -> Tensor:
        match view.storage:
            case PersistentId(("storage", Global(_, kind), str(key), _, int(count), *rest)):
                pass
            case _:
                raise CheckpointError(
                    f"{self.path} is damaged: expected a storage for {name!r}, found {describe(view.storage)}"
                )
        dtype = view.dtype or STORAGE_DTYPES.get(kind)
        if dtype is None or dtype == UNKNOWN:
            return self.make_unread(name, f"a tensor of a type that NumPy lacks ({quote(kind)})", view.shape)
        storage = self.find_storage(key)
        if storage is None:
            raise CheckpointError(f"{self.path} is damaged: expected the storage {key[:80]!r} of {name!r}, found none")
        start, end = _find_part(self.path, name, rest[0] if rest else None, count, ITEM_SIZES.get(kind, dtype.itemsize))
        shape, strides = self.validate_view(name, view, dtype)
        first = start + view.offset * dtype.itemsize if type(view.offset) is int else -1
        span = _compute_span(shape, strides) * dtype.itemsize
        if not 0 <= start <= first <= first + span <= end <= storage.size:
            raise CheckpointError(
                f"{self.path} is damaged: {name!r} takes bytes {quote(first)} to {quote(first + span)} of its storage, "
                f"which has {storage.size:,}"
            )
        flags = _parse_flags(self.path, name, view.flags, dtype)
        offset = storage.offset + first
        return Tensor(
            shape,
            dtype,
            _StorageView(self.path, name, storage, offset, span, shape, strides, dtype, self.big_endian, flags).read,
        )

    def validate_view(self, name: str, view: _View, dtype: Dtype) -> tuple[Shape, tuple[int, ...]]:
        """Return the shape and the strides of a tensor; the stride of an axis of one is 0, since it can be anything."""
        # Strides can repeat the numbers of a storage. Without repetition, the span below bounds the shape.
        shape = validate_shape(self.path, name, _to_tuple(view.shape), dtype.itemsize, limit_repeated(self.size))
        strides = _to_tuple(view.strides)
        if (
            not isinstance(strides, tuple)
            or len(strides) != len(shape)
            or not all(type(stride) is int and stride >= 0 for stride in strides)
        ):
            raise CheckpointError(
                f"{self.path} is damaged: expected {len(shape)} strides for {name!r}, found {quote(strides)}"
            )
        return shape, tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))


def _unwrap(call: Call) -> Call | None:
    """Return the call that makes a tensor inside one that makes a parameter or a subclass of it, or None."""
    match (str(call.function), call.arguments):
        case ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (Call() as inner, *_)):
            return inner
        case ("torch._tensor._rebuild_from_type" | "torch._tensor._rebuild_from_type_v2", (function, _, arguments, *_)):
            return Call(function, arguments)
    return None


def _to_tuple(value: Value) -> Value:
    """Return the sizes in a ``torch.Size``, or another value as it is."""
    match value:
        case Call(Global("torch", "Size"), (tuple() | list() as sizes,)):
            return tuple(sizes)
    return value


def _find_part(path: str, name: str, part: Value, count: int, unit: int) -> tuple[int, int]:
    """Return where the part of a storage that a tensor may use starts and ends, in bytes.

    Before version 1.6, a storage could be a view of another one: a key, its first item, and its number of items.
    """
    match part:
        case None:
            return 0, count * unit
        case (_, int(first), int(items)) if 0 <= first <= first + items <= count:
            return first * unit, (first + items) * unit
    raise CheckpointError(f"{path} is damaged: expected the part of a storage of {name!r}, found {quote(part)}")


def _compute_span(shape: Shape, strides: tuple[int, ...]) -> int:
    """Return how many numbers of the storage lie from a tensor's first number to its last."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _parse_flags(path: str, name: str, flags: Value, dtype: Dtype) -> tuple[str, ...]:
    """Return what PyTorch still has to do with the numbers of a tensor: "neg" negates, "conj" conjugates."""
    items = [] if flags is None else flags.items if isinstance(flags, PairList) else [(flags, True)]
    names = [key for key, value in items if value is not False]
    for key in names:
        if not (key == "conj" and dtype.kind == "c") and not (
            key == "neg" and (dtype.kind in "fic" or dtype == BFLOAT16)
        ):
            raise CheckpointError(f"{path}: {name!r} has the property {quote(key)}, which is not known for its type")
    return tuple(names)


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
    flags: tuple[str, ...]

    def read(self) -> Array:
        """Return the tensor in C order. Raises CheckpointError if the storage does not match its checksum."""
        data = byte_ranges.read(self.path, self.offset, self.size)
        self.check(data)
        flat = data if self.dtype.itemsize == 1 else data.view(self.dtype)  # as_strided does not know float8
        if self.big_endian:
            flat.byteswap(inplace=True)
        strides = tuple(stride * self.dtype.itemsize for stride in self.strides)
        array = np.asarray(np.lib.stride_tricks.as_strided(flat, self.shape, strides), order="C").view(self.dtype)
        for flag in self.flags:
            (np.negative if flag == "neg" else np.conjugate)(array, out=array)
        return array

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
