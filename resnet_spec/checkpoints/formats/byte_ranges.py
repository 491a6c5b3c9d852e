"""Read ranges of bytes from a file and verify their checksums."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import CheckpointError
from resnet_spec.weights.canonical import Array

_CHUNK = 2**20
_MIN_HEADER_LIMIT = 2**21
"""Bytes that a header or zip directory may take in a file of any size: enough for 20,000 arrays, about 4,000 layers."""


def read(path: str, offset: int, size: int) -> Array:
    """Return bytes of a file, shape (size,), as a new array.

    Raises CheckpointError if the file ends too early. The file is not memory-mapped, because a mapped file that another
    process truncates kills this one.
    """
    array = np.empty(size, np.uint8)
    rest = array.data
    with Path(path).open("rb", buffering=0) as file:
        file.seek(offset)
        while rest:
            try:
                count = file.readinto(rest)
            except OSError as error:  # which does not name the file
                raise OSError(error.errno, error.strerror, path) from error
            if not count:
                found = size - len(rest)
                raise CheckpointError(f"{path} is truncated: expected {size:,} bytes at {offset:,}, found {found:,}")
            rest = rest[count:]
    return array


def compute_checksum(path: str, offset: int, size: int) -> int:
    """Return the CRC-32 of bytes of a file without holding all of them in memory."""
    value = 0
    for at in range(offset, offset + size, _CHUNK):
        value = crc32(read(path, at, min(_CHUNK, offset + size - at)).data, value)
    return value


def check_checksum(path: str, name: str, found: int, expected: int) -> None:
    """Raise CheckpointError if the checksum of a file's entry or array is not the one stored in the file."""
    if found != expected:
        raise CheckpointError(
            f"{path} is damaged: expected the checksum {expected:08x} for {name!r}, found {found:08x}"
        )


def check_header_size(path: str, what: str, length: int, size: int) -> None:
    """Raise CheckpointError if a header or zip directory is too long for a file of ``size`` bytes.

    A parsed header takes about ten times its length in memory.
    """
    if length > max(_MIN_HEADER_LIMIT, size // 8):
        raise CheckpointError(
            f"{path} is damaged: a {what} of {length:,} bytes is too long for a file of {size:,} bytes"
        )


class FileRange(io.RawIOBase):
    """A part of a file as a file of its own, for libraries that read files."""

    def __init__(self, path: str, offset: int, size: int) -> None:
        super().__init__()
        self.file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by close()
        self.offset, self.size, self.at = offset, size, 0

    def close(self) -> None:
        self.file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence] + offset)
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)[: max(0, self.size - self.at)]
        self.file.seek(self.offset + self.at)
        count = self.file.readinto(view) or 0
        self.at += count
        return count
