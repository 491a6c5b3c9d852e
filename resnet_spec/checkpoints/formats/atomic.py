"""Write a file or a folder completely or not at all: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path


@contextmanager
def replace_file(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write a file to, which replaces ``path`` if the block ends without an error.

    If the process is killed, the old file is unchanged, and a ``.part`` file remains beside it.
    """
    target = Path(os.path.realpath(path))  # replace the file that a symbolic link points to, not the link
    part = _temporary_path(target)
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def create_folder(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder to fill, which is renamed to ``path`` if the block ends without an error.

    Raises FileExistsError if ``path`` is a file or a folder that is not empty, which no rename can replace.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{path} exists, and a checkpoint folder is never overwritten; remove it or choose another"
        )
    part = _temporary_path(target)
    part.mkdir()
    try:
        yield part
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _temporary_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.{os.getpid()}.part")
