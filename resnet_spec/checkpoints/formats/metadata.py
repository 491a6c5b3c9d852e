"""Metadata of a checkpoint: strings by name, stored in the file as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.tensors import CheckpointError, quote

_CHECKSUMS = "crc32"
"""The key of checksums in a format that has none of its own: eight hexadecimal digits per array, in file order."""

_DIGITS = re.compile("[0-9a-f]*")
_MAX_BYTES = 2**20


def encode_metadata(metadata: Mapping[str, str]) -> bytes:
    """Encode metadata as JSON."""
    return json.dumps(dict(metadata)).encode()


def read_metadata(path: str, offset: int, size: int) -> dict[str, str]:
    """Read metadata from a part of a file. Raises CheckpointError."""
    return decode_metadata(path, byte_ranges.read(path, offset, min(size, _MAX_BYTES)).tobytes())


def decode_metadata(path: str, data: bytes) -> dict[str, str]:
    """Decode metadata from JSON. Raises CheckpointError if it is not a mapping of strings to strings."""
    try:
        metadata = json.loads(data) if len(data) < _MAX_BYTES else None
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(
            f"{path} is damaged: expected metadata as a JSON object of strings, found {quote(data[:40])}"
        )
    return metadata


def add_checksums(metadata: Mapping[str, str], checksums: Iterable[int]) -> dict[str, str]:
    """Return the metadata with the checksums of the file's arrays, in file order."""
    return {**metadata, _CHECKSUMS: "".join(f"{checksum:08x}" for checksum in checksums)}


def find_checksums(path: str, metadata: Mapping[str, str], names: Iterable[str]) -> dict[str, int]:
    """Return the checksum of each array by name, or {} if the metadata hold none.

    Raises CheckpointError unless they hold one for each of ``names``: nothing tells which of them are right.
    """
    digits = metadata.get(_CHECKSUMS)
    if digits is None:
        return {}
    names = list(names)
    if len(digits) != 8 * len(names) or not _DIGITS.fullmatch(digits):
        raise CheckpointError(
            f"{path} is damaged: expected the checksums of {len(names):,} arrays, found {quote(digits)}; if another "
            f"program has changed the file, let it save the arrays without the metadata {_CHECKSUMS!r}"
        )
    return {name: int(digits[8 * index : 8 * index + 8], 16) for index, name in enumerate(names)}
