"""Hashes of files, and what they must be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.library.published import PublishedFile

_CHUNK = 2**20
_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Digest:
    """The hashes and the size of a file; ``md5`` is "" if it was not asked for."""

    sha256: str
    md5: str
    size: int


def compute_digest(path: Path, *, md5: bool = False) -> Digest:
    """Read a file once, and return its hashes and its size."""
    hashes = [hashlib.sha256(), *([hashlib.md5(usedforsecurity=False)] if md5 else [])]
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for computed in hashes:
                computed.update(chunk)
            size += len(chunk)
    digits = [computed.hexdigest() for computed in hashes]
    return Digest(digits[0], digits[1] if md5 else "", size)


def describe_mismatch(digest: Digest, file: PublishedFile, locked: str | None) -> str:
    """Return how a file differs from what is published, or from the ``locked`` SHA-256 of its first use; or ""."""
    if not digest.sha256.startswith(file.sha256):
        return f"its sha256 is {_shorten(digest.sha256)}, and the published one {_shorten(file.sha256)}"
    if file.md5 and digest.md5 != file.md5:
        return f"its md5 is {digest.md5}, and the published one {file.md5}"
    if locked is not None and digest.sha256 != locked:
        return f"its sha256 is {_shorten(digest.sha256)}, and was {_shorten(locked)} when it was first used"
    if file.size is not None and digest.size != file.size:
        return f"it has {digest.size:,} bytes, and the published one {file.size:,}"
    return ""


def _shorten(digits: str) -> str:
    return f"{digits[:_SHOWN]}{'...' if len(digits) > 8 else ''}"
