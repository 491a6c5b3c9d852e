"""NumPy archives (.npz): a zip archive with one array per entry, compressed or not."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from resnet_spec.checkpoints.formats import zip_archive
from resnet_spec.checkpoints.formats.metadata import decode_metadata, encode_metadata
from resnet_spec.checkpoints.formats.tensors import (
    BFLOAT16,
    Checkpoint,
    CheckpointError,
    Dtype,
    Tensor,
    add_tensor,
    check_total_size,
    validate_shape,
    view_bytes,
)
from resnet_spec.checkpoints.formats.zip_archive import Entry
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "NumPy archive"

_BFLOAT16_DESCR = "|V2"
"""What NumPy writes for bfloat16, a type that it does not know: two bytes without a meaning."""
_MAX_HEADER_BYTES = 4096


def read(path: str) -> Checkpoint:
    """Read the headers of an archive's arrays. Raises CheckpointError."""
    archive = zip_archive.read_directory(path)
    tensors: dict[str, Tensor] = {}
    for name, entry in archive.entries.items():
        if not name.endswith(".npy"):
            raise CheckpointError(f"{path} is a zip archive, but not one of NumPy arrays: it holds {name!r}")
        add_tensor(path, tensors, name.removesuffix(".npy"), _parse_tensor(path, entry))
    check_total_size(path, tensors.values(), Path(path).stat().st_size)
    # Other programs may comment an archive too, in words.
    metadata = decode_metadata(path, archive.comment) if archive.comment.startswith(b"{") else {}
    return Checkpoint(path, FORMAT, "torch", tensors, metadata)


def _parse_tensor(path: str, entry: Entry) -> Tensor:
    claimed, fortran, dtype, offset = _parse_header(path, entry)
    stored = BFLOAT16 if dtype.str == _BFLOAT16_DESCR and dtype.names is None else dtype
    if stored.kind not in "fiubc" and stored != BFLOAT16:
        what = "pickled objects" if dtype.kind == "O" else f"{dtype}, which is not a numeric type"
        raise CheckpointError(f"{path}: {entry.name!r} holds {what}; save numbers: numpy.savez(file, **arrays_by_name)")
    shape = validate_shape(path, entry.name, claimed, dtype.itemsize, entry.size - offset)
    if math.prod(shape) * dtype.itemsize != entry.size - offset:
        raise CheckpointError(
            f"{path} is damaged: {entry.name!r} claims {shape} of {dtype}, but holds {entry.size - offset:,} bytes"
        )
    return Tensor(shape, stored.newbyteorder("="), partial(_read_array, path, entry, offset, shape, stored, fortran))


def _parse_header(path: str, entry: Entry) -> tuple[Shape, bool, Dtype, int]:
    """Return an array's shape, whether it is in Fortran order, its type, and the offset of its bytes in the entry."""
    start = io.BytesIO(zip_archive.read_start(path, entry, _MAX_HEADER_BYTES))
    try:
        version = npy.read_magic(start)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read_header(start, max_header_size=_MAX_HEADER_BYTES)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
        raise CheckpointError(f"{path} is damaged: {entry.name!r} does not start like a NumPy array") from None
    return shape, fortran, dtype, start.tell()


def _read_array(path: str, entry: Entry, offset: int, shape: Shape, dtype: Dtype, fortran: bool) -> Array:
    array = zip_archive.read(path, entry)[offset:].view(dtype).reshape(shape, order="F" if fortran else "C")
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return np.asarray(array, order="C")


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write an archive that ``numpy.load(path)`` opens. The metadata are the archive's comment."""
    members = ((f"{name}.npy", _encode_header(tensor), view_bytes(tensor.read())) for name, tensor in tensors.items())
    zip_archive.write(path, members, encode_metadata(metadata))


def _encode_header(tensor: Tensor) -> bytes:
    header = io.BytesIO()
    descr = _BFLOAT16_DESCR if tensor.dtype == BFLOAT16 else tensor.dtype.str
    npy.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": tensor.shape})
    return header.getvalue()
