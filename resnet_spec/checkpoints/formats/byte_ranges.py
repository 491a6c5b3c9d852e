"""A stretch of a file: its bytes, read when they are wanted, and found whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import CheckpointError
from resnet_spec.weights.canonical import Array

_STEP = 2**20
_CONTENTS = 2**21
"""Bytes that a table of contents may take in a file of any size: those of 20,000 arrays, as 4,000 layers have."""


def read(path: str, offset: int, size: int) -> Array:
    """Bytes of a file (size,), as memory of the caller's own. Raises CheckpointError if the file ends before.

    Read, not mapped: a file that is cut short while it is mapped kills the process.
    """
    array = np.empty(size, np.uint8)
    rest = array.data
    with Path(path).open("rb", buffering=0) as file:
        file.seek(offset)
        while rest:
            count = file.readinto(rest)
            if not count:
                found = size - len(rest)
                raise CheckpointError(f"{path} is cut short: expected {size:,} bytes at {offset:,}, found {found:,}")
            rest = rest[count:]
    return array


def checksum(path: str, offset: int, size: int) -> int:
    """The CRC-32 of bytes of a file, which are not kept."""
    value = 0
    for at in range(offset, offset + size, _STEP):
        value = crc32(read(path, at, min(_STEP, offset + size - at)).data, value)
    return value


def matching(path: str, name: str, found: int, expected: int) -> None:
    """Raises CheckpointError unless a checksum is the one that the file keeps."""
    if found != expected:
        raise CheckpointError(
            f"{path} is damaged: expected the checksum {expected:08x} for {name!r}, found {found:08x}"
        )


def in_proportion(path: str, what: str, length: int, size: int) -> None:
    """Raises CheckpointError for a table of contents too long for a file of ``size`` bytes: parsed, it takes ten times its length in memory."""
    if length > max(_CONTENTS, size // 8):
        raise CheckpointError(f"{path} is damaged: a {what} of {length:,} bytes in a file of {size:,}")
