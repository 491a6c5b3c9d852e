"""PyTorch checkpoints since version 1.6: a zip archive of one pickle and the bytes of each storage."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

from resnet_spec.checkpoints.formats import pickle_reader, zip_archive
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.metadata import encode_metadata, read_metadata
from resnet_spec.checkpoints.formats.pickle_writer import (
    encode_call,
    encode_global,
    encode_int,
    encode_ints,
    encode_text,
    encode_tuple,
)
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, view_bytes
from resnet_spec.checkpoints.formats.torch_pickle import STORAGE_DTYPES, Storage, describe_module, parse_tensors

FORMAT = "PyTorch checkpoint"
SCRIPT_FORMAT = "PyTorch TorchScript archive"

_METADATA = "extra/resnet_spec.json"  # torch.load ignores this folder, in which TorchScript keeps extra files
_ROOT = "archive/"
_STORAGES = {dtype: storage for storage, dtype in STORAGE_DTYPES.items()}
_ALIGNMENT = 64  # as torch.save aligns, for torch.load(mmap=True)


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a checkpoint's tensors, without calling anything. Raises CheckpointError."""
    entries = zip_archive.read_directory(path).entries
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise CheckpointError(
            f"{path} is a zip archive, but not a PyTorch checkpoint: expected one data.pkl, found {len(roots)}"
        )
    (root,) = roots
    is_script = f"{root}constants.pkl" in entries
    entry = entries[f"{root}data.pkl"]
    zip_archive.check_stored(path, entry)
    budget = Budget(path, Path(path).stat().st_size)
    value = pickle_reader.read(path, entry.offset, entry.offset + entry.stored_size, budget).value
    storages = {
        name.removeprefix(f"{root}data/"): Storage(entry.offset, entry.size, entry.crc)
        for name, entry in entries.items()
        if name.startswith(f"{root}data/") and not entry.deflated
    }
    order = entries.get(f"{root}byteorder")
    big_endian = order is not None and zip_archive.read_start(path, order, 3) == b"big"
    metadata = entries.get(root + _METADATA)
    return Checkpoint(
        path,
        SCRIPT_FORMAT if is_script else FORMAT,
        "torch",
        parse_tensors(path, value, storages.get, big_endian, budget),
        {} if metadata is None else _read_metadata(path, metadata),
        describe_module(value),
    )


def _read_metadata(path: str, entry: zip_archive.Entry) -> dict[str, str]:
    zip_archive.check_stored(path, entry)
    return read_metadata(path, entry.offset, entry.size)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a state dict that ``torch.load(path, weights_only=True)`` opens."""
    zip_archive.write(path, _generate_members(tensors, metadata), alignment=_ALIGNMENT)


def _generate_members(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[tuple[str, bytes, memoryview]]:
    nothing = memoryview(b"")
    yield f"{_ROOT}data.pkl", _encode_state_dict(tensors), nothing
    yield f"{_ROOT}byteorder", b"little", nothing
    for index, tensor in enumerate(tensors.values()):
        yield f"{_ROOT}data/{index}", b"", view_bytes(tensor.read())
    yield f"{_ROOT}version", b"3\n", nothing
    yield _ROOT + _METADATA, encode_metadata(metadata), nothing


def _encode_state_dict(tensors: Mapping[str, Tensor]) -> bytes:
    """Encode the pickle of an OrderedDict of tensors in C order, each with a storage of its own."""
    empty = encode_call(encode_global("collections", "OrderedDict"), pickle.EMPTY_TUPLE)
    items = (
        encode_text(name) + _encode_tensor(index, tensor, empty) for index, (name, tensor) in enumerate(tensors.items())
    )
    return b"".join([pickle.PROTO, b"\2", empty, pickle.MARK, *items, pickle.SETITEMS, pickle.STOP])


def _encode_tensor(index: int, tensor: Tensor, hooks: bytes) -> bytes:
    count = tensor.nbytes // tensor.dtype.itemsize
    kind = encode_global("torch", _STORAGES[tensor.dtype])
    key = encode_tuple(encode_text("storage"), kind, encode_text(str(index)), encode_text("cpu"), encode_int(count))
    strides = [1]
    for size in reversed(tensor.shape[1:]):
        strides.insert(0, strides[0] * max(1, size))
    view = (encode_int(0), encode_ints(tensor.shape), encode_ints(strides[: len(tensor.shape)]))
    return encode_call(
        encode_global("torch._utils", "_rebuild_tensor_v2"),
        encode_tuple(key + pickle.BINPERSID, *view, pickle.NEWFALSE, hooks),
    )
