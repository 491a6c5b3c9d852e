"""Read and write zip archives of stored entries, and verify the checksums of the entries that are read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import (
    MAX_NAME_LENGTH,
    CheckpointError,
    describe_cause,
    limit_repeated,
    quote,
)
from resnet_spec.weights.canonical import Array

# The structures of the format, named as in its specification (APPNOTE.TXT, section 4.3).
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
_ZIP64_END_RECORD = struct.Struct("<4sQ2H2I4Q")
_ZIP64_END_LOCATOR = struct.Struct("<4sIQI")
_END_RECORD = struct.Struct("<4s4H2IH")
_MAX_COMMENT_BYTES = 2**16
_CHUNK = 2**18
_UTF_8_FLAG = 0x800
_DATE = 1 << 5 | 1  # always 1 January 1980, so that the same weights give the same file
_UNIX = 3 << 8
_VERSION, _ZIP64_VERSION = 20, 45
_IN_ZIP64 = 0xFFFFFFFF
"""Stands in a 32-bit field whose value is in a zip64 structure."""
_MIN_ZIP64 = _IN_ZIP64
"""The smallest size or offset that needs a 64-bit field."""
_MIN_ZIP64_COUNT = 0xFFFF
"""The smallest number of entries that needs a 64-bit field, which also stands in the 16-bit field then."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive.

    Attributes:
        offset: Where its data start in the archive.
        stored_size: How many bytes it takes in the archive.
        size: How many bytes it has when decompressed.
        crc: The CRC-32 of the decompressed bytes; PyTorch may write 0 for a stored entry without a checksum.
    """

    name: str
    offset: int
    stored_size: int
    size: int
    crc: int
    deflated: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive's entries by name, and its comment."""

    path: str
    entries: dict[str, Entry]
    comment: bytes


def read_directory(path: str) -> Archive:
    """Read the directory of an archive. Raises CheckpointError if it is damaged."""
    size = Path(path).stat().st_size
    try:
        _check_directory_size(path, size)
        with ZipFile(path) as archive:
            infos, comment = archive.infolist(), archive.comment
        if len({info.filename for info in infos}) != len(infos):
            raise CheckpointError(f"{path} is damaged: two of its entries have the same name")
        with Path(path).open("rb") as file:
            entries = {info.filename: _read_local_header(path, file, size, info) for info in infos}
    except (BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OSError) as error:
        if isinstance(error, CheckpointError | FileNotFoundError | PermissionError):
            raise
        raise CheckpointError(f"{path} is not a valid zip archive: {describe_cause(error).lower()}") from None
    before = min((info.header_offset for info in infos), default=0)
    if before:
        raise CheckpointError(
            f"{path} has {before:,} bytes before its archive, such as those of another file; keep each file for itself"
        )
    return Archive(path, entries, comment)


def _check_directory_size(path: str, size: int) -> None:
    """Raise CheckpointError if the directory is missing, or too long for a file of ``size`` bytes."""
    ends = _END_RECORD.size + _ZIP64_END_LOCATOR.size + _ZIP64_END_RECORD.size
    start = max(0, size - _MAX_COMMENT_BYTES - ends)
    tail = byte_ranges.read(path, start, size - start).tobytes()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise CheckpointError(f"{path} is truncated: expected a zip archive's directory at its end, found none")
    length = _END_RECORD.unpack_from(tail, at)[5]
    locator = at - _ZIP64_END_LOCATOR.size
    if tail[max(0, locator) :].startswith(b"PK\6\7"):  # the 64-bit record in front of it counts
        record = locator - _ZIP64_END_RECORD.size
        if record < 0 or not tail.startswith(b"PK\6\6", record):
            raise CheckpointError(f"{path} is damaged: expected the 64-bit record of its directory, found none")
        length = _ZIP64_END_RECORD.unpack_from(tail, record)[8]
    byte_ranges.check_header_size(path, "zip directory", length, size)


def _read_local_header(path: str, file: BinaryIO, size: int, info: ZipInfo) -> Entry:
    """Locate an entry's data by the header in front of them. Raises CheckpointError if it contradicts the directory."""
    if len(info.filename) > MAX_NAME_LENGTH:
        raise CheckpointError(f"{path} is damaged: a name of {len(info.filename):,} characters, {quote(info.filename)}")
    if not 0 <= info.header_offset < size:
        raise CheckpointError(f"{path} is damaged: {info.filename!r} claims to start at {info.header_offset:,}")
    file.seek(info.header_offset)
    header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    signature, flags, name_length, extra_length = header[0], header[2], header[9], header[10]
    offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    name = file.read(name_length)
    if name.decode("utf-8" if flags & _UTF_8_FLAG else "cp437", "replace") != info.orig_filename:
        raise CheckpointError(f"{path} is damaged: {info.filename!r} has another name in its local header")
    if signature != b"PK\3\4" or offset + info.compress_size > size:
        raise CheckpointError(
            f"{path} is damaged: expected {info.compress_size:,} bytes of {info.filename!r} at {offset:,}"
        )
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & 1:
        raise CheckpointError(f"{path}: {info.filename!r} is encrypted, or compressed by an unsupported method")
    deflated = info.compress_type == ZIP_DEFLATED
    if not deflated and info.compress_size != info.file_size:
        raise CheckpointError(f"{path} is damaged: {info.filename!r} claims two sizes")
    return Entry(info.filename, offset, info.compress_size, info.file_size, info.CRC, deflated)


def read(path: str, entry: Entry) -> Array:
    """Return an entry's bytes, shape (size,). Raises CheckpointError if they do not match the entry's checksum."""
    data = _inflate(path, entry) if entry.deflated else byte_ranges.read(path, entry.offset, entry.stored_size)
    if entry.crc or entry.deflated:
        byte_ranges.check_checksum(path, entry.name, crc32(data.data), entry.crc)
    return data


def read_start(path: str, entry: Entry, limit: int) -> bytes:
    """Return up to ``limit`` bytes from the start of an entry. Their checksum can't be verified."""
    stored = byte_ranges.read(path, entry.offset, min(limit, entry.stored_size)).data
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, limit) if entry.deflated else bytes(stored)
    except zlib.error:
        raise _inflate_error(path, entry) from None


def check_stored(path: str, entry: Entry) -> None:
    """Raise CheckpointError if an entry is compressed, or has a checksum that its bytes do not match."""
    if entry.deflated:
        raise CheckpointError(f"{path}: expected {entry.name!r} to be stored, found it compressed")
    if entry.crc:
        found = byte_ranges.compute_checksum(path, entry.offset, entry.stored_size)
        byte_ranges.check_checksum(path, entry.name, found, entry.crc)


def _inflate(path: str, entry: Entry) -> Array:
    """Decompress an entry piece by piece into an array of the size that it claims, which is bounded first."""
    limit = limit_repeated(Path(path).stat().st_size)
    if entry.size > limit:
        raise CheckpointError(
            f"{path}: {entry.name!r} takes {entry.size:,} bytes decompressed, and at most {limit:,} are read from a "
            "file of this size; save it uncompressed, as numpy.savez does"
        )
    data, at = np.empty(entry.size, np.uint8), 0
    for piece in _generate_inflated(path, entry):
        if at + len(piece) <= entry.size:
            data[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
        if at > entry.size:
            break
    if at != entry.size:
        found = "more" if at > entry.size else f"{at:,}"
        raise CheckpointError(f"{path} is damaged: expected {entry.size:,} bytes of {entry.name!r}, found {found}")
    return data


def _generate_inflated(path: str, entry: Entry) -> Iterator[bytes]:
    """Yield the decompressed bytes of an entry in pieces of bounded size."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    end = entry.offset + entry.stored_size
    try:
        for start in range(entry.offset, end, _CHUNK):
            rest = byte_ranges.read(path, start, min(_CHUNK, end - start)).tobytes()
            while True:
                piece = inflate.decompress(rest, _CHUNK)
                rest = inflate.unconsumed_tail
                yield piece
                if not rest and len(piece) < _CHUNK:
                    break
    except zlib.error:
        raise _inflate_error(path, entry) from None


def _inflate_error(path: str, entry: Entry) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {entry.name!r} can't be decompressed")


def write(
    path: Path, members: Iterable[tuple[str, bytes, memoryview]], comment: bytes = b"", alignment: int = 1
) -> None:
    """Write an archive of stored entries.

    Each member is a name and two pieces of data, which are written one after the other. The data of every entry start
    at a multiple of ``alignment``. ``zipfile`` is not used because it computes checksums by zlib, which is slower.
    """
    directory = []
    with path.open("wb") as file:
        for name, head, data in members:
            offset, crc, size = file.tell(), crc32(data, crc32(head)), len(head) + len(data)
            encoded = name.encode()
            sizes = _zip64_extra(size, size) if size >= _MIN_ZIP64 else b""
            short_size = _IN_ZIP64 if sizes else size
            flags = 0 if name.isascii() else _UTF_8_FLAG
            common = (flags, ZIP_STORED, 0, _DATE, crc, short_size, short_size, len(encoded))
            extra = sizes + _alignment_extra(offset + _LOCAL_HEADER.size + len(encoded) + len(sizes), alignment)
            version = _ZIP64_VERSION if sizes else _VERSION
            file.write(_LOCAL_HEADER.pack(b"PK\3\4", version, *common, len(extra)) + encoded + extra)
            file.write(head)
            file.write(data)
            is_far = offset >= _MIN_ZIP64
            extra = _zip64_extra(*[size] * 2 * bool(sizes), *[offset] * is_far)
            version = _ZIP64_VERSION if extra else _VERSION
            rest = (len(extra), 0, 0, 0, 0o600 << 16, _IN_ZIP64 if is_far else offset)
            header = _CENTRAL_HEADER.pack(b"PK\1\2", _UNIX | version, version, *common, *rest)
            directory.append(header + encoded + extra)
        _write_directory(file, directory, comment)


def _zip64_extra(*numbers: int) -> bytes:
    """Return the extra field that holds 64-bit numbers, or no bytes if there are no numbers."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def _alignment_extra(at: int, alignment: int) -> bytes:
    """Return an extra field of zeros, of the type that PyTorch uses, that ends at a multiple of ``alignment``."""
    if alignment == 1:
        return b""
    count = -(at + 4) % alignment
    return struct.pack("<2sH", b"FB", count) + bytes(count)


def _write_directory(file: BinaryIO, directory: list[bytes], comment: bytes) -> None:
    start, count = file.tell(), len(directory)
    size = sum(map(len, directory))
    file.writelines(directory)
    if start + size >= _MIN_ZIP64 or count >= _MIN_ZIP64_COUNT:
        versions = (_UNIX | _ZIP64_VERSION, _ZIP64_VERSION)
        record = (b"PK\6\6", _ZIP64_END_RECORD.size - 12, *versions, 0, 0, count, count, size, start)
        file.write(_ZIP64_END_RECORD.pack(*record))
        file.write(_ZIP64_END_LOCATOR.pack(b"PK\6\7", 0, start + size, 1))
        start, size, count = _IN_ZIP64, min(size, _IN_ZIP64), min(count, _MIN_ZIP64_COUNT)
    file.write(_END_RECORD.pack(b"PK\5\6", 0, 0, count, count, size, start, len(comment)) + comment)
