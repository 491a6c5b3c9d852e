"""PyTorch checkpoints before version 1.6: five pickles, then each storage's length and bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from resnet_spec.checkpoints.formats import byte_ranges, pickle_reader
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.pickle_values import Global, PairList, PersistentId
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, quote
from resnet_spec.checkpoints.formats.torch_pickle import ITEM_SIZES, Storage, describe_module, parse_tensors

FORMAT = "PyTorch checkpoint (format before 1.6)"

MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The pickled number at the start of such a file."""

_STARTS = (b"\x80\x02", b"\x80\x03", *(b"\x80%c\x95\x0d\0\0\0\0\0\0\0" % protocol for protocol in (4, 5)))
"""What precedes it in each protocol; since the fourth, also the length of the frame."""

_LENGTH = struct.Struct("<q")


def starts_file(head: bytes) -> bool:
    """Return whether a file that starts with these 32 bytes is in this format."""
    return any(head.startswith(start + MAGIC) for start in _STARTS)


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a checkpoint's tensors, without calling anything. Raises CheckpointError."""
    size = Path(path).stat().st_size
    budget = Budget(path, size)
    pickles = [pickle_reader.read(path, 0, size, budget)]
    for _ in range(4):
        pickles.append(pickle_reader.read(path, pickles[-1].end, size, budget))
    _, version, system, weights, keys = pickles
    if version.value != 1001 or not isinstance(keys.value, list):
        raise CheckpointError(f"{path} is damaged: expected a checkpoint of version 1001 with a list of storages")
    big_endian = isinstance(system.value, PairList) and ("little_endian", False) in system.value.items
    storages = _locate_storages(path, keys.end, size, keys.value, weights.persistent_ids)
    tensors = parse_tensors(path, weights.value, storages.get, big_endian, budget)
    return Checkpoint(path, FORMAT, "torch", tensors, notes=describe_module(weights.value))


def _locate_storages(
    path: str, at: int, size: int, keys: list[object], persistent_ids: Iterable[PersistentId]
) -> dict[str, Storage]:
    """Locate the storages, which follow each other from ``at``: a length in numbers, then the bytes."""
    itemsizes = {}
    for persistent_id in persistent_ids:
        match persistent_id.key:
            case ("storage", Global(_, kind), str(key), *_) if kind in ITEM_SIZES:
                itemsizes[key] = ITEM_SIZES[kind]
    storages = {}
    for name in keys:
        if not isinstance(name, str) or name not in itemsizes:
            raise CheckpointError(f"{path}: the storage {quote(name)} does not hold numbers of a known type")
        (count,) = _LENGTH.unpack(byte_ranges.read(path, at, _LENGTH.size).tobytes())
        at += _LENGTH.size
        nbytes = count * itemsizes[name]
        if not 0 <= nbytes <= size - at:
            raise CheckpointError(f"{path} is truncated: expected {nbytes:,} bytes at {at:,}, found {size - at:,}")
        storages[name] = Storage(at, nbytes)
        at += nbytes
    return storages
