"""Read and write checkpoints in every format. A file's format is detected by its contents, not by its name."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from resnet_spec.backend import BackendError
from resnet_spec.checkpoints.formats import (
    distributed,
    msgpack_file,
    recognition,
    sharded_files,
    torch_legacy,
    zip_archive,
)
from resnet_spec.checkpoints.formats.atomic import create_folder, replace_file
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, UnreadTensor, describe_cause
from resnet_spec.language.values import join_alternatives


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of checkpoint that can be written.

    Attributes:
        suffixes: The suffixes of such files.
        layout: The framework whose array layouts they use.
        writer: The module of this package that writes them.
    """

    suffixes: tuple[str, ...]
    layout: str
    writer: str


KINDS: Mapping[str, Kind] = {
    "safetensors": Kind((".safetensors",), "torch", "safetensors_file"),
    "torch": Kind((".pth", ".pt", ".bin"), "torch", "torch_zip"),
    "paddle": Kind((".pdparams",), "paddle", "paddle_pickle"),
    "npz": Kind((".npz",), "torch", "npz"),
    "orbax": Kind((".orbax", ""), "nnx", "orbax_writer"),
}
"""The kinds by name. An Orbax checkpoint is a folder."""

UNEXPECTED = "its contents are like those of no checkpoint"
"""What is said if a reader fails at a place where it expects no failure."""

_MAX_NAMED = 8
_SIGNATURE_BYTES = 64
_MAX_TAR_NAMES = 8
_TAR_MAGIC_AT = 257
_LFS_POINTER = b"version https://git-lfs"
_ORBAX_FILE = "_METADATA"
_KERAS_MEMBER = "model.weights.h5"
_EXTRAS = {"tensorstore": ("an Orbax checkpoint", "flax"), "h5py": ("a Keras file", "keras")}
"""What a file is that needs a library, and the extra that installs it."""


def infer_kind(path: str | PathLike[str]) -> str:
    """Return the kind of checkpoint to write to a path, by its suffix. Raises ValueError if the suffix is unknown."""
    suffix = Path(path).suffix.lower()
    for name, kind in KINDS.items():
        if suffix in kind.suffixes:
            return name
    known = join_alternatives(suffix for kind in KINDS.values() for suffix in kind.suffixes if suffix)
    raise ValueError(f"{fspath(path)} ends in {suffix!r}; expected {known}, or no suffix for an Orbax folder")


def read(path: str | PathLike[str]) -> Checkpoint:
    """Open a checkpoint: names, shapes and types are read now, each array when its ``read`` is called.

    Raises:
        CheckpointError: The file is damaged, or not a checkpoint in a known format.
        FileNotFoundError: There is no such file.
        BackendError: The format needs a library that is not installed.
    """
    name = fspath(path)
    if not Path(name).exists():
        raise FileNotFoundError(f"no weights file named {name!r}")
    if not Path(name).is_file() and not Path(name).is_dir():  # opening a pipe waits until somebody writes to it
        raise CheckpointError(f"{name} is neither a file nor a folder; copy its contents to a file first")
    try:
        reader, place = _guard(name, partial(_detect_reader, name))
        module = import_module(f"resnet_spec.checkpoints.formats.{reader}")
    except ModuleNotFoundError as error:
        what, extra = _EXTRAS.get(error.name or "", _EXTRAS["tensorstore"])
        raise BackendError(
            f"{name} is {what}, and reading it requires {error.name}, which is not installed; "
            f"try: pip install 'resnet-spec[{extra}]'"
        ) from None
    open_file = partial(module.read, place, read) if reader == "sharded_files" else partial(module.read, place)
    checkpoint: Checkpoint = _guard(name, open_file)
    checkpoint = replace(checkpoint, path=name)
    tensors = {
        key: replace(tensor, read=partial(_guard, name, tensor.read)) for key, tensor in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors, notes=(*checkpoint.notes, *_describe_unread(tensors)))


def _guard(path: str, read: Callable[[], Any]) -> Any:
    """Return what a reader returns. What the system refuses is reported as it is; nothing else may escape a reader."""
    try:
        return read()
    except (CheckpointError, BackendError, OSError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged: {UNEXPECTED} ({type(error).__name__}: {describe_cause(error)})"
        ) from error


def _describe_unread(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return a note that names the arrays which can't be read, if there are any."""
    unread = [f"{name} ({tensor.what})" for name, tensor in tensors.items() if isinstance(tensor, UnreadTensor)]
    more = f" and {len(unread) - _MAX_NAMED:,} more" if len(unread) > _MAX_NAMED else ""
    return [f"not read: {', '.join(unread[:_MAX_NAMED])}{more}"] if unread else []


def write(path: str | PathLike[str], kind: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a checkpoint completely or not at all, holding one array in memory at a time.

    Raises OSError, which names ``path``, if it can't be written.
    """
    module = import_module(f"resnet_spec.checkpoints.formats.{KINDS[kind].writer}")
    with create_folder(path) if kind == "orbax" else replace_file(path) as part:
        module.write(part, tensors, metadata)


def _detect_reader(path: str) -> tuple[str, str]:
    """Return the name of the module that reads a file, by its first bytes, and the file. Raises CheckpointError."""
    if Path(path).is_dir():
        return _detect_folder(path)
    with Path(path).open("rb") as file:
        head = file.read(_SIGNATURE_BYTES)
    # The JSON header of a safetensors file follows eight bytes of length, which can have any value.
    if head[8:9] == b"{" and head[:1] != b"{":
        return "safetensors_file", path
    _refuse_tar(path)
    if head.startswith(b"PK") or (is_zipfile(path) and not head.startswith(b"\x80")):
        return _detect_archive(path), path
    if head[:1] == b"\x80":
        return ("torch_legacy" if torch_legacy.starts_file(head) else "paddle_pickle"), path
    if Path(path).suffix == ".safetensors" and not head.startswith(_LFS_POINTER):
        return "safetensors_file", path
    if sharded_files.is_index(path):
        return "sharded_files", path
    if Path(path).suffix == ".mlmodel":  # a protocol buffer, as ONNX files are
        raise CheckpointError(f"{path} is not a checkpoint in a known format: {recognition.describe_file(path, head)}")
    for reader, starts in (("hdf5_file", head.startswith(b"\x89HDF\r\n")), ("onnx_file", head[:1] == b"\x08")):
        if starts:
            return reader, path
    if msgpack_file.starts_file(head):
        return "msgpack_file", path
    raise CheckpointError(f"{path} is not a checkpoint in a known format: {recognition.describe_file(path, head)}")


def _detect_archive(path: str) -> str:
    entries = zip_archive.read_directory(path).entries
    if any(name.endswith(".pkl") for name in entries):
        return "torch_zip"
    if _KERAS_MEMBER in entries:
        return "hdf5_file"
    if not all(name.endswith(".npy") for name in entries):
        raise CheckpointError(
            f"{path} is a zip archive, but not a checkpoint: it holds {', '.join(map(repr, list(entries)[:3]))}; "
            "unpack it and choose one of its files"
        )
    return "npz"


def _detect_folder(path: str) -> tuple[str, str]:
    """Return the module that reads a folder, and what it reads: the folder, or one file in it."""
    if Path(path, distributed.METADATA).is_file():
        return "distributed", path
    file = sharded_files.find_file(path)
    if file is not None:
        return _detect_reader(file)
    if not Path(path, _ORBAX_FILE).is_file():
        recognition.refuse_folder(path)
    return "orbax_reader", path


def _refuse_tar(path: str) -> None:
    """Raise CheckpointError for a tar archive, which may end with a checkpoint that looks like the file's own."""
    with Path(path).open("rb") as file:
        file.seek(_TAR_MAGIC_AT)
        if file.read(5) != b"ustar":
            return
    try:
        with tarfile.open(path, "r:") as archive:
            names = [member.name[:80] for member in islice(archive, _MAX_TAR_NAMES + 1)]
    except (tarfile.TarError, ValueError, EOFError):
        names = []
    more = " and more" if len(names) > _MAX_TAR_NAMES else ""
    held = f" with {', '.join(map(repr, names[:_MAX_TAR_NAMES]))}{more}" if names else ""
    raise CheckpointError(f"{path} is a tar archive{held}; unpack it (tar -xf) and choose one of its files")
