"""PyTorch's checkpoints before 1.6: five pickles, then each storage's length and its bytes, in the order of the last pickle."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from resnet_spec.checkpoints.formats import byte_ranges, pickle_reader, torch_pickle
from resnet_spec.checkpoints.formats.pickle_values import Named, Outside, Pairs
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError
from resnet_spec.checkpoints.formats.torch_pickle import STORAGES, Stored

FORMAT = "PyTorch checkpoint of before 1.6"

MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The number that such a file starts with, after the mark of a pickle's protocol."""

_LENGTH = struct.Struct("<q")


def read(path: str) -> Checkpoint:
    """The tensors of a checkpoint. Nothing in its pickles is called. Raises CheckpointError."""
    size = Path(path).stat().st_size
    pickles = [pickle_reader.read(path, 0, size)]
    for _ in range(4):
        pickles.append(pickle_reader.read(path, pickles[-1].end, size))
    _, version, system, weights, keys = pickles
    if version.value != 1001 or not isinstance(keys.value, list):
        raise CheckpointError(f"{path} is damaged: expected a checkpoint of version 1001, and its storages' names")
    swapped = isinstance(system.value, Pairs) and ("little_endian", False) in system.value.items
    stored = _stored(path, keys.end, size, keys.value, weights.outside)
    return Checkpoint(path, FORMAT, "torch", torch_pickle.tensors(path, weights.value, stored.get, swapped))


def _stored(path: str, at: int, size: int, keys: list[object], outside: Iterable[Outside]) -> dict[str, Stored]:
    """Where each storage lies: a length in numbers, whose size their type says, and the bytes."""
    itemsizes = {}
    for item in outside:
        match item.name:
            case ("storage", Named(_, kind), str(key), *_) if kind in STORAGES:
                itemsizes[key] = STORAGES[kind].itemsize
    found = {}
    for name in keys:
        if not isinstance(name, str) or name not in itemsizes:
            raise CheckpointError(f"{path}: the storage {str(name)[:40]!r} holds no numbers of a known type")
        (count,) = _LENGTH.unpack(byte_ranges.read(path, at, _LENGTH.size).tobytes())
        at += _LENGTH.size
        held = count * itemsizes[name]
        if not 0 <= held <= size - at:
            raise CheckpointError(f"{path} is cut short: expected {held:,} bytes at {at:,}, found {size - at:,}")
        found[name] = Stored(at, held)
        at += held
    return found
