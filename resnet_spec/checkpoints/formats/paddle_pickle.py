"""PaddlePaddle's checkpoints: one pickle of NumPy arrays by name, in which bfloat16 passes as uint16."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges, metadata, pickle_reader, pickle_writer
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.pickle_values import Called, Named, Value
from resnet_spec.checkpoints.formats.pickle_writer import called, row, text, whole, wholes
from resnet_spec.checkpoints.formats.pickled_arrays import array, mapping, named
from resnet_spec.checkpoints.formats.tensors import (
    BFLOAT16,
    Checkpoint,
    CheckpointError,
    Tensor,
    bounded,
    bounded_total,
    raw,
)
from resnet_spec.weights.canonical import Array

FORMAT = "PaddlePaddle checkpoint"

_CUT = "UnpackBigParamInfor@@"  # (sic) how arrays too large for protocols 2 and 3 were cut
_PARTS = "@@."
_TUPLES = {"builtins.tuple", "__builtin__.tuple"}
_UINT16 = np.dtype(np.uint16)
_MARK = b"\n#resnet-spec "  # after the pickle's end, where no loader looks


def read(path: str) -> Checkpoint:
    """The arrays of a checkpoint. Nothing in its pickle is called. Raises CheckpointError."""
    size = Path(path).stat().st_size
    found = pickle_reader.read(path, 0, size)
    if not mapping(found.value):
        raise CheckpointError(f"{path} holds no mapping of arrays; save model.state_dict() in its place")
    tensors = named(found.value, partial(_find, path, size))
    tensors |= _joined(path, size, found.value, tensors)
    bounded_total(path, tensors, size)
    after = byte_ranges.read(path, found.end, size - found.end).tobytes()
    said = metadata.parsed(path, after.removeprefix(_MARK)) if after.startswith(_MARK) else {}
    expected = metadata.checksums(said, tensors)
    checked = {
        name: replace(tensor, read=partial(_checked, path, name, tensor, expected[name])) if expected else tensor
        for name, tensor in tensors.items()
    }
    return Checkpoint(path, FORMAT, "paddle", checked, said)


def _find(path: str, size: int, name: str, value: Value) -> Tensor | None:
    match value:
        case Called(Named() as function, ((_, inner),)) if str(function) in _TUPLES:  # a tensor and its own name
            value = inner
    tensor = array(path, size, name, value)
    if tensor is None or tensor.dtype != _UINT16:
        return tensor
    return Tensor(tensor.shape, BFLOAT16, lambda: tensor.read().view(BFLOAT16))


def _checked(path: str, name: str, tensor: Tensor, expected: int) -> Array:
    found = tensor.read()
    byte_ranges.matching(path, name, crc32(raw(found)), expected)
    return found


def _joined(path: str, size: int, value: Value, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Arrays that were cut into parts, whole again; the parts are taken out of ``tensors``."""
    cuts = next((item for key, item in value.items if key == _CUT), None)
    whole_again = {}
    for name, cut in cuts.items if cuts is not None and mapping(cuts) else []:
        match sorted(cut.items, key=str) if mapping(cut) else None:
            case [("OriginShape", shape), ("slices", list(parts))] if isinstance(name, str):
                pieces = [tensors.pop(part, None) for part in parts if isinstance(part, str)]
            case _:
                raise CheckpointError(f"{path} is damaged: expected how {str(name)[:40]!r} was cut")
        if not pieces or None in pieces:
            raise CheckpointError(f"{path} is damaged: parts of {name!r} are missing")
        whole_again[name] = _whole(path, size, name, shape, [piece for piece in pieces if piece])
    return whole_again


def _whole(path: str, size: int, name: str, shape: object, pieces: list[Tensor]) -> Tensor:
    dtype = pieces[0].dtype
    claimed = bounded(path, name, shape, dtype.itemsize, size)
    if sum(piece.nbytes for piece in pieces) != int(np.prod(claimed)) * dtype.itemsize:
        raise CheckpointError(f"{path} is damaged: the parts of {name!r} do not make up {claimed}")
    return Tensor(claimed, dtype, lambda: np.concatenate([piece.read() for piece in pieces]).reshape(claimed))


def write(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """A state dict, as ``paddle.load(path)`` opens it."""
    sums = []
    with path.open("wb") as file:
        file.write(pickle.PROTO + b"\4" + pickle.EMPTY_DICT + pickle.MARK)
        for name, tensor in tensors.items():
            data = raw(tensor.read())
            sums.append(f"{crc32(data):08x}")
            file.write(text(name) + _before(tensor) + pickle_writer.size_of_bytes(len(data)))
            file.write(data)
            file.write(pickle.TUPLE + pickle.BUILD)
        file.write(pickle.SETITEMS + pickle.STOP)
        file.write(_MARK + metadata.text({**said, metadata.CHECKSUMS: "".join(sums)}))


def _before(tensor: Tensor) -> bytes:
    """What makes an array, up to its bytes, as NumPy pickles one."""
    # The module that every NumPy has: the one that NumPy 2 writes is unknown to those before 1.26.
    empty = row(pickle_writer.named("numpy", "ndarray"), wholes([0]), pickle.SHORT_BINBYTES + b"\1b")
    made = called(pickle_writer.named("numpy.core.multiarray", "_reconstruct"), empty)
    dtype = _UINT16 if tensor.dtype == BFLOAT16 else tensor.dtype
    kind = called(pickle_writer.named("numpy", "dtype"), row(text(dtype.str[1:]), pickle.NEWFALSE, pickle.NEWTRUE))
    state = row(whole(3), text("<"), *[pickle.NONE] * 3, whole(-1), whole(-1), whole(0)) + pickle.BUILD
    return made + pickle.MARK + whole(1) + wholes(tensor.shape) + kind + state + pickle.NEWFALSE
