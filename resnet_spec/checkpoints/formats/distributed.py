"""torch.distributed.checkpoint's folders: one pickle that says where each piece of each tensor is, and files of pieces.

Each piece is a tensor that ``torch.save`` has written somewhere in a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges, pickle_reader
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.pickle_values import Call, Global, PairList, Value
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
    Checkpoint,
    CheckpointError,
    Dtype,
    Tensor,
    add_tensor,
    check_total_size,
    describe_cause,
    make_unread,
    quote,
    validate_shape,
)
from resnet_spec.checkpoints.formats.torch_pickle import Storage, parse_tensor
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "PyTorch distributed checkpoint"
METADATA = ".metadata"

_TENSOR_COST = 900
_LOCAL_HEADER = struct.Struct("<26x2H")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where a piece of a tensor is: in a file, and in the tensor."""

    file: str
    offset: int
    size: int
    start: Shape


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a folder's tensors. Raises CheckpointError."""
    index = str(Path(path) / METADATA)
    size = sum(file.stat().st_size for file in Path(path).iterdir() if file.is_file())
    budget = Budget(path, size)
    value = pickle_reader.read(index, 0, Path(index).stat().st_size, budget).value
    fields = dict(_iterate_fields(value))
    pieces = _locate_pieces(path, fields.get("storage_data"), size)
    tensors: dict[str, Tensor] = {}
    for name, item in _iterate_pairs(fields.get("state_dict_metadata")):
        if not isinstance(name, str):
            raise CheckpointError(f"{path} is damaged: expected the names of tensors in {METADATA}")
        budget.spend(_TENSOR_COST + len(name))
        tensor = _parse_tensor(path, name, dict(_iterate_fields(item)), pieces.get(name, []), size)
        if tensor is not None:
            add_tensor(path, tensors, name, tensor)
    if not tensors:
        raise CheckpointError(f"{path} is no checkpoint of torch.distributed.checkpoint: {METADATA} names no tensors")
    check_total_size(path, tensors.values(), size)
    return Checkpoint(path, FORMAT, "torch", tensors)


def _iterate_pairs(value: Value) -> Iterator[tuple[Value, Value]]:
    return iter(value.items) if isinstance(value, PairList | Call) else iter(())


def _iterate_fields(value: Value) -> Iterator[tuple[str, Value]]:
    """Yield the attributes of an object that was read as a record of its state, by name."""
    state = value.state if isinstance(value, Call) else value
    return ((key, item) for key, item in _iterate_pairs(state) if isinstance(key, str))


def _locate_pieces(path: str, value: Value, size: int) -> dict[str, list[_Piece]]:
    """Return where the pieces of each tensor are, by its name."""
    pieces: dict[str, list[_Piece]] = {}
    for key, info in _iterate_pairs(value):
        index, place = dict(_iterate_fields(key)), dict(_iterate_fields(info))
        name, start = index.get("fqn"), _to_sizes(index.get("offset"))
        match place:
            case {"relative_path": str() as file, "offset": int() as offset, "length": int() as length}:
                pass
            case _:
                raise CheckpointError(f"{path} is damaged: expected the place of a tensor in {METADATA}")
        if not isinstance(name, str) or Path(file).name != file or file in ("", ".", "..") or not file.isprintable():
            raise CheckpointError(f"{path} is damaged: expected the name of a file in it, found {quote(file)}")
        if not 0 <= offset <= offset + length <= size:
            raise CheckpointError(f"{path} is damaged: {name!r} claims bytes {quote(offset)} and on of {file!r}")
        pieces.setdefault(name, []).append(_Piece(str(Path(path) / file), offset, length, start))
    return pieces


def _to_sizes(value: Value) -> Shape:
    """Return the sizes in a ``torch.Size``."""
    match value:
        case Call(Global("torch", "Size"), (tuple() | list() as sizes,)) if all(type(size) is int for size in sizes):
            return tuple(sizes)
    return ()


def _parse_tensor(path: str, name: str, fields: dict[str, Value], pieces: list[_Piece], size: int) -> Tensor | None:
    """Return a tensor, or None if the entry is a plain object in bytes."""
    if "size" not in fields:
        return None
    properties = fields.get("properties")
    state = properties.state if isinstance(properties, Call) else None
    kind = state[0] if isinstance(state, tuple | list) and state else None
    dtype = DTYPES.get(kind.name) if isinstance(kind, Global) else None
    if dtype is None:
        return make_unread(path, name, f"a tensor of the type {quote(str(kind)[:80])}", "save it in a numeric type")
    shape = validate_shape(path, name, _to_sizes(fields["size"]), dtype.itemsize, size)
    if not pieces:
        raise CheckpointError(f"{path} is damaged: {METADATA} does not say where {name!r} is")
    return Tensor(shape, dtype, partial(_read_pieces, path, name, shape, dtype, pieces))


def _read_pieces(path: str, name: str, shape: Shape, dtype: Dtype, pieces: list[_Piece]) -> Array:
    if len(pieces) == 1:
        array = _read_piece(path, name, pieces[0])
        if array.shape != shape or array.dtype != dtype:
            raise CheckpointError(f"{path} is damaged: expected {name!r} as {shape} of {dtype}, found {array.shape}")
        return array
    array, count = np.empty(shape, dtype), 0
    for piece in pieces:
        part = _read_piece(path, name, piece)
        place = tuple(slice(at, at + size) for at, size in zip(piece.start, part.shape, strict=False))
        if len(piece.start) != len(shape) or array[place].shape != part.shape or part.dtype != dtype:
            raise CheckpointError(f"{path} is damaged: a piece of {name!r} lies outside of its shape {shape}")
        array[place], count = part, count + part.size
    if count != array.size:
        raise CheckpointError(f"{path} is damaged: the pieces of {name!r} do not add up to its shape {shape}")
    return array


def _read_piece(path: str, name: str, piece: _Piece) -> Array:
    """Return the tensor in a zip archive that is a part of a file."""
    if not Path(piece.file).is_file():
        raise CheckpointError(f"{path} is incomplete: expected the file {Path(piece.file).name!r} in it, found none")
    try:
        with byte_ranges.FileRange(piece.file, piece.offset, piece.size) as source, ZipFile(source) as archive:
            entries = {info.filename: info for info in archive.infolist()}
    except (BadZipFile, ValueError, OSError, EOFError, struct.error, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {name!r} can't be read: {describe_cause(error)}") from None
    if any(info.compress_type != ZIP_STORED for info in entries.values()):
        raise CheckpointError(f"{path}: {name!r} is compressed; save it without compression")
    storages = {}
    root = next((key.removesuffix("data.pkl") for key in entries if key.endswith("/data.pkl")), None)
    if root is None:
        raise CheckpointError(f"{path} is damaged: {name!r} is no tensor that torch.save has written")
    for key, info in entries.items():
        if key.startswith(f"{root}data/"):
            storages[key.removeprefix(f"{root}data/")] = Storage(*_locate_entry(path, piece, info), info.CRC)
    offset, size = _locate_entry(path, piece, entries[f"{root}data.pkl"])
    value = pickle_reader.read(piece.file, offset, offset + size, Budget(path, piece.size)).value
    tensor = parse_tensor(piece.file, name, value, storages.get)
    if tensor is None:
        raise CheckpointError(f"{path} is damaged: {name!r} is no tensor that torch.save has written")
    return tensor.read()


def _locate_entry(path: str, piece: _Piece, info: Any) -> tuple[int, int]:
    """Return where an entry of a piece's archive starts in the file, and its size."""
    at = piece.offset + info.header_offset
    lengths = _LOCAL_HEADER.unpack(byte_ranges.read(piece.file, at, _LOCAL_HEADER.size).tobytes())
    offset = at + _LOCAL_HEADER.size + sum(lengths)
    if not piece.offset <= offset <= offset + info.file_size <= piece.offset + piece.size:
        raise CheckpointError(f"{path} is damaged: {quote(info.filename)} lies outside of its archive")
    return offset, info.file_size
