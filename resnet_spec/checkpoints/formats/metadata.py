"""What a file says of itself: text by name, written with the weights and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from resnet_spec.checkpoints.formats.tensors import CheckpointError

CHECKSUMS = "crc32"
"""The name under which a file without checksums of its own keeps one for each array, in order: eight hexadecimal digits each."""

_LONGEST = 2**24


def text(said: Mapping[str, str]) -> bytes:
    return json.dumps(dict(said)).encode()


def parsed(path: str, data: bytes) -> dict[str, str]:
    """Text by name from JSON. Raises CheckpointError."""
    try:
        said = json.loads(data) if len(data) < _LONGEST else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise CheckpointError(f"{path} is damaged: expected metadata, found {data[:40]!r}")
    return said


def checksums(said: Mapping[str, str], names: Iterable[str]) -> dict[str, int]:
    """The checksum of each array, if the metadata hold as many as there are names."""
    digits = said.get(CHECKSUMS, "")
    every = list(names)
    if not digits or len(digits) != 8 * len(every):
        return {}
    try:
        return {name: int(digits[8 * index : 8 * index + 8], 16) for index, name in enumerate(every)}
    except ValueError:
        return {}
