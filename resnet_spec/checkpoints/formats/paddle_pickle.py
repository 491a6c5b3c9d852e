"""PaddlePaddle checkpoints: one pickle of NumPy arrays by name, in which bfloat16 is stored as uint16."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges, pickle_reader
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.metadata import add_checksums, encode_metadata, find_checksums, read_metadata
from resnet_spec.checkpoints.formats.pickle_values import Call, Global, Value
from resnet_spec.checkpoints.formats.pickle_writer import (
    encode_bytes_header,
    encode_call,
    encode_global,
    encode_int,
    encode_ints,
    encode_text,
    encode_tuple,
)
from resnet_spec.checkpoints.formats.pickled_arrays import collect_tensors, is_mapping, parse_array
from resnet_spec.checkpoints.formats.tensors import (
    BFLOAT16,
    Checkpoint,
    CheckpointError,
    Tensor,
    check_total_size,
    make_unread,
    validate_shape,
    view_bytes,
)
from resnet_spec.weights.canonical import Array

FORMAT = "PaddlePaddle checkpoint"
PLAIN_FORMAT = "pickle of arrays"

_SPLIT_ARRAYS = "UnpackBigParamInfor@@"  # (sic) Paddle's key for arrays too large for protocols 2 and 3
_NAMES = "StructuredToParameterName@@"
_TUPLES = {"builtins.tuple", "__builtin__.tuple"}
_UINT16 = np.dtype(np.uint16)
_METADATA_MARK = b"\n#resnet-spec "  # the metadata follow the end of the pickle, which every loader ignores


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a checkpoint's arrays, without calling anything. Raises CheckpointError."""
    size = Path(path).stat().st_size
    budget = Budget(path, size)
    pickled = pickle_reader.read(path, 0, size, budget)
    if not is_mapping(pickled.value):
        raise CheckpointError(f"{path} does not hold a mapping of arrays; save model.state_dict() instead")
    tensors = collect_tensors(path, pickled.value, partial(_parse_tensor, path, size), budget)
    tensors |= _join_split_arrays(path, size, pickled.value, tensors)
    check_total_size(path, tensors.values(), size)
    mark = byte_ranges.read(path, pickled.end, min(len(_METADATA_MARK), size - pickled.end)).tobytes()
    start = pickled.end + len(mark)
    metadata = read_metadata(path, start, size - start) if mark == _METADATA_MARK else {}
    for name, checksum in find_checksums(path, metadata, tensors).items():
        tensors[name] = replace(tensors[name], read=partial(_read_checked, path, name, tensors[name], checksum))
    is_paddles = bool(metadata) or Path(path).suffix.startswith(".pd") or _NAMES in dict(_text_items(pickled.value))
    kind = (FORMAT, "paddle") if is_paddles else (PLAIN_FORMAT, "torch")
    return Checkpoint(path, *kind, tensors, metadata)


def _text_items(value: Value) -> list[tuple[str, Value]]:
    return [(key, item) for key, item in value.items if isinstance(key, str)]


def _parse_tensor(path: str, size: int, name: str, value: Value) -> Tensor | None:
    match value:
        case Call(Global() as function, ((_, array),)) if str(function) in _TUPLES:  # the tensor's own name, and it
            value = array
        case Call(Global("torch._utils", function), _) if function.startswith("_rebuild"):
            return make_unread(path, name, "a tensor pickled without torch.save", "save it by torch.save")
    tensor = parse_array(path, size, name, value)
    if tensor is None or tensor.dtype != _UINT16:
        return tensor
    return Tensor(tensor.shape, BFLOAT16, lambda: tensor.read().view(BFLOAT16))


def _read_checked(path: str, name: str, tensor: Tensor, checksum: int) -> Array:
    array = tensor.read()
    byte_ranges.check_checksum(path, name, crc32(view_bytes(array)), checksum)
    return array


def _join_split_arrays(path: str, size: int, value: Value, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays that Paddle stored in parts, and remove the parts from ``tensors``."""
    split = next((item for key, item in value.items if key == _SPLIT_ARRAYS), None)
    joined = {}
    for name, description in split.items if split is not None and is_mapping(split) else []:
        match sorted(description.items, key=str) if is_mapping(description) else None:
            case [("OriginShape", shape), ("slices", list(keys))] if isinstance(name, str):
                parts = [tensors.pop(key, None) for key in keys if isinstance(key, str)]
            case _:
                raise CheckpointError(f"{path} is damaged: expected the shape and the parts of {str(name)[:40]!r}")
        if not parts or None in parts:
            raise CheckpointError(f"{path} is damaged: parts of {name!r} are missing")
        joined[name] = _join_parts(path, size, name, shape, [part for part in parts if part])
    return joined


def _join_parts(path: str, size: int, name: str, claimed: object, parts: list[Tensor]) -> Tensor:
    dtype = parts[0].dtype
    shape = validate_shape(path, name, claimed, dtype.itemsize, size)
    if sum(part.nbytes for part in parts) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{path} is damaged: the parts of {name!r} do not add up to the shape {shape}")
    return Tensor(shape, dtype, lambda: np.concatenate([part.read() for part in parts]).reshape(shape))


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a state dict that ``paddle.load(path)`` opens."""
    checksums = []
    with path.open("wb") as file:
        file.write(pickle.PROTO + b"\4" + pickle.EMPTY_DICT + pickle.MARK)
        for name, tensor in tensors.items():
            data = view_bytes(tensor.read())
            checksums.append(crc32(data))
            file.write(encode_text(name) + _encode_array_start(tensor) + encode_bytes_header(len(data)))
            file.write(data)
            file.write(pickle.TUPLE + pickle.BUILD)
        file.write(pickle.SETITEMS + pickle.STOP)
        file.write(_METADATA_MARK + encode_metadata(add_checksums(metadata, checksums)))


def _encode_array_start(tensor: Tensor) -> bytes:
    """Encode an array as NumPy pickles it, up to its bytes."""
    # numpy.core exists in every NumPy; versions before 1.26 do not know numpy._core, which NumPy 2 writes.
    reconstruct = encode_global("numpy.core.multiarray", "_reconstruct")
    arguments = (encode_global("numpy", "ndarray"), encode_ints([0]), pickle.SHORT_BINBYTES + b"\1b")
    dtype = _UINT16 if tensor.dtype == BFLOAT16 else tensor.dtype
    dtype_arguments = encode_tuple(encode_text(dtype.str[1:]), pickle.NEWFALSE, pickle.NEWTRUE)
    dtype_state = (encode_int(3), encode_text("<"), *[pickle.NONE] * 3, *map(encode_int, (-1, -1, 0)))
    return (
        encode_call(reconstruct, encode_tuple(*arguments))
        + (pickle.MARK + encode_int(1) + encode_ints(tensor.shape))
        + (encode_call(encode_global("numpy", "dtype"), dtype_arguments) + encode_tuple(*dtype_state) + pickle.BUILD)
        + pickle.NEWFALSE
    )
