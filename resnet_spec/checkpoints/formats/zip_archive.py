"""A zip archive's entries: where each lies, and its bytes, held to the archive's own checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import CheckpointError
from resnet_spec.weights.canonical import Array

# Structures of the format, by the names that its definition (APPNOTE.TXT, 4.3) gives them.
_LOCAL = struct.Struct("<4s5H3I2H")  # local file header: ..., length of the name, of the extra field
_CENTRAL = struct.Struct("<4s6H3I5H2I")  # central directory header: ..., offset of the local header
_END_64 = struct.Struct("<4sQ2H2I4Q")  # zip64 end of central directory record
_LOCATOR_64 = struct.Struct("<4sIQI")  # zip64 end of central directory locator
_END = struct.Struct("<4s4H2IH")  # end of central directory record: ..., its size, its offset, length of the comment
_LARGEST_COMMENT = 2**16
_UTF_8 = 0x800
_DATE = 1 << 5 | 1  # 1 January 1980: the same weights give the same file
_UNIX = 3 << 8
_VERSION, _VERSION_64 = 20, 45
_FULL, _FULL_COUNT = 0xFFFFFFFF, 0xFFFF  # in place of a number that stands in a zip64 field
_ZIP64 = _FULL
"""From how many bytes on a size or an offset takes eight bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of an archive. ``offset`` and ``held`` are its bytes in the file; ``size`` is what they give, if they are deflated."""

    name: str
    offset: int
    held: int
    size: int
    crc: int
    deflated: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive's entries by name, and its comment."""

    path: str
    entries: dict[str, Entry]
    comment: bytes


def archive(path: str) -> Archive:
    """The directory of an archive. Raises CheckpointError."""
    size = Path(path).stat().st_size
    try:
        _bounded_directory(path, size)
        with ZipFile(path) as file:
            infos, comment = file.infolist(), file.comment
        entries = {info.filename: _entry(path, size, info) for info in infos}
    except (BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OSError) as error:
        if isinstance(error, CheckpointError | FileNotFoundError | PermissionError):
            raise
        raise CheckpointError(f"{path} is no whole zip archive: {str(error).lower()}") from None
    if len(entries) != len(infos):
        raise CheckpointError(f"{path} is damaged: two of its entries have the same name")
    return Archive(path, entries, comment)


def _bounded_directory(path: str, size: int) -> None:
    """Raises CheckpointError for a directory that is not there, or out of proportion."""
    start = max(0, size - _LARGEST_COMMENT - _END.size)
    tail = byte_ranges.read(path, start, size - start).tobytes()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise CheckpointError(f"{path} is cut short: expected a zip archive's directory at its end, found none")
    byte_ranges.in_proportion(path, "zip directory", _END.unpack_from(tail, at)[5], size)


def _entry(path: str, size: int, info: ZipInfo) -> Entry:
    header = _LOCAL.unpack(byte_ranges.read(path, info.header_offset, _LOCAL.size).tobytes())
    offset = info.header_offset + _LOCAL.size + header[9] + header[10]
    name = byte_ranges.read(path, info.header_offset + _LOCAL.size, header[9]).tobytes()
    if name.decode("utf-8" if header[2] & _UTF_8 else "cp437", "replace") != info.orig_filename:
        raise CheckpointError(f"{path} is damaged: {info.filename!r} has another name where it lies")
    if header[0] != b"PK\3\4" or offset + info.compress_size > size:
        raise CheckpointError(
            f"{path} is damaged: expected {info.compress_size:,} bytes of {info.filename!r} at {offset:,}"
        )
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & 1:
        raise CheckpointError(f"{path}: {info.filename!r} is encrypted, or compressed in a way that is not known")
    deflated = info.compress_type == ZIP_DEFLATED
    if not deflated and info.compress_size != info.file_size:
        raise CheckpointError(f"{path} is damaged: {info.filename!r} claims two sizes")
    return Entry(info.filename, offset, info.compress_size, info.file_size, info.CRC, deflated)


def read(path: str, entry: Entry) -> Array:
    """An entry's bytes (size,), whole and matching its checksum. Raises CheckpointError."""
    held = byte_ranges.read(path, entry.offset, entry.held)
    data = _inflated(path, entry, held) if entry.deflated else held
    if entry.crc or entry.deflated:  # PyTorch can be told to write no checksums: they are all zero then
        byte_ranges.matching(path, entry.name, crc32(data.data), entry.crc)
    return data


def start(path: str, entry: Entry, most: int) -> bytes:
    """The first bytes of an entry, not held to anything."""
    held = byte_ranges.read(path, entry.offset, min(most, entry.held)).data
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(held, most) if entry.deflated else bytes(held)
    except zlib.error:
        raise _inflatable(path, entry) from None


def check(path: str, entry: Entry) -> None:
    """Raises CheckpointError unless an entry is stored as it is, and matches its checksum, where it has one."""
    if entry.deflated:
        raise CheckpointError(f"{path}: expected {entry.name!r} as it is, found it compressed")
    if entry.crc:
        byte_ranges.matching(path, entry.name, byte_ranges.checksum(path, entry.offset, entry.held), entry.crc)


def _inflated(path: str, entry: Entry, held: Array) -> Array:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflate.decompress(held.data, max(1, entry.size))
    except zlib.error:
        raise _inflatable(path, entry) from None
    if len(data) != entry.size or not (inflate.eof or not inflate.decompress(inflate.unconsumed_tail, 1)):
        raise CheckpointError(
            f"{path} is damaged: expected {entry.size:,} bytes of {entry.name!r}, found {len(data):,}"
        )
    return np.frombuffer(bytearray(data), np.uint8)


def _inflatable(path: str, entry: Entry) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: expected {entry.name!r} compressed, found what can't be inflated")


def write(path: Path, members: Iterable[tuple[str, bytes, memoryview]], comment: bytes = b"", aligned: int = 1) -> None:
    """An archive of stored members: a name, and bytes in two parts. They start at multiples of ``aligned``.

    Its own, because the standard library's writer takes three times as long over checksums.
    """
    directory = []
    with path.open("wb") as file:
        for name, head, data in members:
            offset, crc, size = file.tell(), crc32(data, crc32(head)), len(head) + len(data)
            encoded = name.encode()
            sizes = _wide(size, size) if size >= _ZIP64 else b""
            shown = _FULL if sizes else size
            common = (0 if name.isascii() else _UTF_8, ZIP_STORED, 0, _DATE, crc, shown, shown, len(encoded))
            extra = sizes + _padding(offset + _LOCAL.size + len(encoded) + len(sizes), aligned)
            version = _VERSION_64 if sizes else _VERSION
            file.write(_LOCAL.pack(b"PK\3\4", version, *common, len(extra)) + encoded + extra)
            file.write(head)
            file.write(data)
            far = offset >= _ZIP64
            wide = _wide(*[size] * 2 * bool(sizes), *[offset] * far)
            version = _VERSION_64 if wide else _VERSION
            ends = (len(wide), 0, 0, 0, 0o600 << 16, _FULL if far else offset)
            directory.append(_CENTRAL.pack(b"PK\1\2", _UNIX | version, version, *common, *ends) + encoded + wide)
        _close(file, directory, comment)


def _wide(*numbers: int) -> bytes:
    """The extra field of numbers that take eight bytes, if there are any."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def _padding(at: int, aligned: int) -> bytes:
    """An extra field of zeros, as PyTorch names it, after which comes a multiple of ``aligned``."""
    if aligned == 1:
        return b""
    count = -(at + 4) % aligned
    return struct.pack("<2sH", b"FB", count) + bytes(count)


def _close(file: BinaryIO, directory: list[bytes], comment: bytes) -> None:
    start, count = file.tell(), len(directory)
    size = sum(map(len, directory))
    file.writelines(directory)
    if start + size >= _ZIP64 or count >= _FULL_COUNT:
        versions = (_UNIX | _VERSION_64, _VERSION_64)
        file.write(_END_64.pack(b"PK\6\6", _END_64.size - 12, *versions, 0, 0, count, count, size, start))
        file.write(_LOCATOR_64.pack(b"PK\6\7", 0, start + size, 1))
        start, size, count = _FULL, min(size, _FULL), min(count, _FULL_COUNT)
    file.write(_END.pack(b"PK\5\6", 0, 0, count, count, size, start, len(comment)) + comment)
