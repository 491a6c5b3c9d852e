"""PyTorch's checkpoints since 1.6: a zip archive of one pickle, and a stored entry for each tensor's bytes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

from resnet_spec.checkpoints.formats import metadata, pickle_reader, torch_pickle, zip_archive
from resnet_spec.checkpoints.formats.pickle_writer import called, named, row, text, whole, wholes
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, raw
from resnet_spec.checkpoints.formats.torch_pickle import STORAGES, Stored

FORMAT = "PyTorch checkpoint"

_EXTRA = "extra/resnet_spec.json"  # where TorchScript keeps other files; torch.load passes over it
_ROOT = "archive/"
_KINDS = {dtype: kind for kind, dtype in STORAGES.items()}
_ALIGNED = 64  # as torch.save does, so that a file can be mapped


def read(path: str) -> Checkpoint:
    """The tensors of a checkpoint. Nothing in its pickle is called. Raises CheckpointError."""
    entries = zip_archive.archive(path).entries
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise CheckpointError(f"{path} is a zip archive, but no PyTorch checkpoint: expected one data.pkl")
    (root,) = roots
    if f"{root}constants.pkl" in entries:
        raise CheckpointError(
            f"{path} holds a TorchScript program, which is code; save torch.jit.load(...).state_dict() in its place"
        )
    entry = entries[f"{root}data.pkl"]
    zip_archive.check(path, entry)
    value = pickle_reader.read(path, entry.offset, entry.offset + entry.held).value
    stored = {
        name.removeprefix(f"{root}data/"): Stored(entry.offset, entry.size, entry.crc)
        for name, entry in entries.items()
        if name.startswith(f"{root}data/") and not entry.deflated
    }
    swapped = f"{root}byteorder" in entries and _bytes(path, entries[f"{root}byteorder"]) == b"big"
    said = metadata.parsed(path, _bytes(path, entries[root + _EXTRA])) if root + _EXTRA in entries else {}
    return Checkpoint(path, FORMAT, "torch", torch_pickle.tensors(path, value, stored.get, swapped), said)


def _bytes(path: str, entry: zip_archive.Entry) -> bytes:
    return zip_archive.read(path, entry).tobytes()


def write(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """A bare state dict, as ``torch.load(path, weights_only=True)`` opens it."""
    zip_archive.write(path, _members(tensors, said), aligned=_ALIGNED)


def _members(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> Iterator[tuple[str, bytes, memoryview]]:
    none = memoryview(b"")
    yield f"{_ROOT}data.pkl", _state_dict(tensors), none
    yield f"{_ROOT}byteorder", b"little", none
    for index, tensor in enumerate(tensors.values()):
        yield f"{_ROOT}data/{index}", b"", raw(tensor.read())
    yield f"{_ROOT}version", b"3\n", none
    yield _ROOT + _EXTRA, metadata.text(said), none


def _state_dict(tensors: Mapping[str, Tensor]) -> bytes:
    """The pickle of an ordered dictionary of tensors, each alone in its storage, in C order."""
    ordered = called(named("collections", "OrderedDict"), pickle.EMPTY_TUPLE)
    items = (text(name) + _tensor(index, tensor, ordered) for index, (name, tensor) in enumerate(tensors.items()))
    return b"".join([pickle.PROTO, b"\2", ordered, pickle.MARK, *items, pickle.SETITEMS, pickle.STOP])


def _tensor(index: int, tensor: Tensor, hooks: bytes) -> bytes:
    count = tensor.nbytes // tensor.dtype.itemsize
    kind = named("torch", _KINDS[tensor.dtype])
    storage = row(text("storage"), kind, text(str(index)), text("cpu"), whole(count)) + pickle.BINPERSID
    strides = [1]
    for size in reversed(tensor.shape[1:]):
        strides.insert(0, strides[0] * max(1, size))
    laid = (wholes(tensor.shape), wholes(strides[: len(tensor.shape)]))
    return called(named("torch._utils", "_rebuild_tensor_v2"), row(storage, whole(0), *laid, pickle.NEWFALSE, hooks))
