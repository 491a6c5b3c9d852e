"""Write a file or a folder completely or not at all: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

_SUFFIX = ".part"


def write_file(path: str | PathLike[str], data: bytes | str) -> None:
    """Write a whole file, or leave what was there. Raises OSError, which names ``path``."""
    with replace_file(path) as part:
        part.write_bytes(data if isinstance(data, bytes) else data.encode())


@contextmanager
def replace_file(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write a file to, which replaces ``path`` if the block ends without an error.

    The temporary file belongs to this call alone, so of several writers of one target the last one wins. A file that
    is replaced keeps its permissions. If the process is killed, the old file is unchanged, and a ``.part`` file
    remains beside it.

    Raises OSError, which names ``path``, if it can't be written, at once if it is a folder, a pipe or a device.
    """
    target = Path(os.path.realpath(path))  # replace the file that a symbolic link points to, not the link
    with _errors_that_name(path):
        mode = _read_mode_of_file(target)
        part = _temporary_path(target)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else 0o600))
        try:
            if mode is not None:
                part.chmod(stat.S_IMODE(mode))
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def move_file(file: Path, path: str | PathLike[str]) -> Path:
    """Let a finished file replace ``path``, which keeps its permissions; return where it is now.

    Raises OSError, which names ``path``, if it can't be replaced, or if it is a folder, a pipe or a device.
    """
    target = Path(os.path.realpath(path))
    with _errors_that_name(path):
        mode = _read_mode_of_file(target)
        if mode is not None:
            file.chmod(stat.S_IMODE(mode))
        file.replace(target)
    return Path(path)


@contextmanager
def create_folder(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder to fill, which is renamed to ``path`` if the block ends without an error.

    Raises OSError, which names ``path``: FileExistsError if it is a file or a folder that is not empty, which no rename
    can replace.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{path} exists, and a folder is never overwritten; remove it or choose another")
    with _errors_that_name(path):
        mode = _read_mode(target)
        part = _temporary_path(target)
        part.mkdir()
        try:
            if mode is not None:
                part.chmod(stat.S_IMODE(mode))
            yield part
            part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _errors_that_name(path: str | PathLike[str]) -> Iterator[None]:
    """Let errors of the file system name the file that the user asked for, not a temporary one, or none at all."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and _SUFFIX not in str(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, fspath(path)) from error


def _read_mode(path: Path) -> int | None:
    """Return the kind and the permissions of what is at a path, or None if nothing is there."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _read_mode_of_file(path: Path) -> int | None:
    """Return what ``_read_mode`` does. Raises OSError if it is not that of a file."""
    mode = _read_mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, not a file that can be replaced")
    return mode


def _temporary_path(target: Path) -> Path:
    """Return a path beside the target that nobody else uses, whose name is not too long where the target's is not."""
    return target.with_name(f"{target.name[:40]}.{os.urandom(8).hex()}{_SUFFIX}")
