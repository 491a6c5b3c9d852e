"""NumPy's archives: a zip of one array an entry, compressed or not. bfloat16, of which NumPy knows nothing, is two bytes without a type."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from resnet_spec.checkpoints.formats import metadata, zip_archive
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, Checkpoint, CheckpointError, Dtype, Tensor, bounded, raw
from resnet_spec.checkpoints.formats.zip_archive import Entry
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "NumPy archive"

_HEADER = 4096  # the most that an array's header may take


def read(path: str) -> Checkpoint:
    """The arrays of an archive. Raises CheckpointError."""
    archive = zip_archive.archive(path)
    tensors = {}
    for name, entry in archive.entries.items():
        if not name.endswith(".npy"):
            raise CheckpointError(f"{path} is a zip archive, but not of NumPy's arrays: it holds {name!r}")
        tensors[name.removesuffix(".npy")] = _tensor(path, entry)
    said = metadata.parsed(path, archive.comment) if archive.comment else {}
    return Checkpoint(path, FORMAT, "torch", tensors, said)


def _tensor(path: str, entry: Entry) -> Tensor:
    shape, fortran, dtype, offset = _header(path, entry)
    kept = BFLOAT16 if dtype.str == "|V2" else dtype
    if kept.kind not in "fiub" and kept != BFLOAT16:
        raise CheckpointError(f"{path}: {entry.name!r} holds {dtype}, which is no type of number")
    fits = bounded(path, entry.name, shape, dtype.itemsize, entry.size - offset)
    if int(np.prod(fits)) * dtype.itemsize != entry.size - offset:
        raise CheckpointError(
            f"{path} is damaged: {entry.name!r} claims {fits} of {dtype}, but holds {entry.size - offset:,} bytes"
        )
    return Tensor(fits, kept.newbyteorder("="), partial(_array, path, entry, offset, fits, kept, fortran))


def _header(path: str, entry: Entry) -> tuple[Shape, bool, Dtype, int]:
    """An array's shape, order and type, and the offset of its bytes."""
    start = io.BytesIO(zip_archive.start(path, entry, _HEADER))
    try:
        version = npy.read_magic(start)
        reads = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = reads(start, max_header_size=_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
        raise CheckpointError(f"{path} is damaged: {entry.name!r} does not start as a NumPy array does") from None
    return shape, fortran, dtype, start.tell()


def _array(path: str, entry: Entry, offset: int, shape: Shape, dtype: Dtype, fortran: bool) -> Array:
    found = zip_archive.read(path, entry)[offset:].view(dtype).reshape(shape, order="F" if fortran else "C")
    return np.asarray(found, dtype.newbyteorder("="), order="C")


def write(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """An archive, as ``numpy.load(path)`` opens it."""
    members = ((f"{name}.npy", _head(tensor), raw(tensor.read())) for name, tensor in tensors.items())
    zip_archive.write(path, members, metadata.text(said))


def _head(tensor: Tensor) -> bytes:
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": _descr(tensor), "fortran_order": False, "shape": tensor.shape})
    return header.getvalue()


def _descr(tensor: Tensor) -> str:
    """What NumPy itself writes for such an array."""
    return "|V2" if tensor.dtype == BFLOAT16 else tensor.dtype.str
