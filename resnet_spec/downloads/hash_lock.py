"""The user's lock: the SHA-256 of every file of published weights that was used, by its address.

Most files are published without a hash, or with a part of one. The first file that is used is written to the lock, and
each later one must be the same.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.downloads.caches import cache_folder
from resnet_spec.downloads.digests import Digest
from resnet_spec.downloads.errors import DownloadError

LOCK = "RESNET_SPEC_LOCK"
"""The environment variable with the path of the lock, such as one that a project keeps; by default in the cache."""


def lock_path() -> Path:
    """Return the path of the user's lock."""
    return Path(os.environ.get(LOCK) or cache_folder() / "lock.json").expanduser()


def read_lock() -> dict[str, str]:
    """Return the SHA-256 of each known file by its address. Raises DownloadError if the lock is damaged."""
    return {url: row["sha256"] for url, row in _read_rows().items()}


def _read_rows() -> dict[str, Any]:
    path = lock_path()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError, IsADirectoryError):
        rows = None
    if isinstance(rows, dict) and all(isinstance(row, dict) and _is_sha256(row.get("sha256")) for row in rows.values()):
        return rows
    raise DownloadError(f"{path} is not a lock of published weights; restore it, or delete it")


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def add_to_lock(url: str, weights: str, digest: Digest) -> None:
    """Write the hash of a file to the lock. Raises OSError, which names the lock, if it can't be written."""
    path = lock_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # another process may add a file at the same time
        rows = {**_read_rows(), url: {"weights": weights, "sha256": digest.sha256, "size": digest.size}}
        write_file(path, _render(rows))


def _render(rows: dict[str, Any]) -> str:
    """Return the text of a lock, with one file per line."""
    lines = ",\n".join(f"{json.dumps(url)}: {json.dumps(rows[url])}" for url in sorted(rows))
    return f"{{\n{lines}\n}}\n"
