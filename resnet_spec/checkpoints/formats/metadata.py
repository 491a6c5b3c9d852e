"""Metadata of a checkpoint: strings by name, stored in the file as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from resnet_spec.checkpoints.formats.tensors import CheckpointError

_CHECKSUMS = "crc32"
"""The key of checksums in a format that has none of its own: eight hexadecimal digits per array, in file order."""

_MAX_BYTES = 2**24


def encode_metadata(metadata: Mapping[str, str]) -> bytes:
    """Encode metadata as JSON."""
    return json.dumps(dict(metadata)).encode()


def decode_metadata(path: str, data: bytes) -> dict[str, str]:
    """Decode metadata from JSON. Raises CheckpointError if it is not a mapping of strings to strings."""
    try:
        metadata = json.loads(data) if len(data) < _MAX_BYTES else None
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path} is damaged: expected metadata as a JSON object of strings, found {data[:40]!r}")
    return metadata


def add_checksums(metadata: Mapping[str, str], checksums: Iterable[int]) -> dict[str, str]:
    """Return the metadata with the checksums of the file's arrays, in file order."""
    return {**metadata, _CHECKSUMS: "".join(f"{checksum:08x}" for checksum in checksums)}


def find_checksums(metadata: Mapping[str, str], names: Iterable[str]) -> dict[str, int]:
    """Return the checksum of each array by name, or {} unless the metadata hold one for each of ``names``."""
    digits = metadata.get(_CHECKSUMS, "")
    names = list(names)
    if not digits or len(digits) != 8 * len(names):
        return {}
    try:
        return {name: int(digits[8 * index : 8 * index + 8], 16) for index, name in enumerate(names)}
    except ValueError:
        return {}
