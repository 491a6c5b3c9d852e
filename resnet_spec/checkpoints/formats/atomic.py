"""A file or a folder that appears whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """A path to write a file to, which takes the place of ``path`` if all goes well.

    Whoever is killed in between leaves the old file as it was, and a ``.part`` beside it.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def creating(path: str | PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` if all goes well. Raises FileExistsError: no rename replaces a folder that holds something."""
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{path} exists; a checkpoint folder is not written over, so remove it or name another")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
