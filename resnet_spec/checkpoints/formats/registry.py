"""Which kinds of checkpoint there are, and which kind a file is: by what it holds, not by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from zipfile import is_zipfile

from resnet_spec.backend import BackendError
from resnet_spec.checkpoints.formats import zip_archive
from resnet_spec.checkpoints.formats.atomic import creating, replacing
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor
from resnet_spec.checkpoints.formats.torch_legacy import MAGIC
from resnet_spec.language.values import join_alternatives


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of checkpoint that can be written: the endings of its files, the layouts that it keeps, and the file here that writes it."""

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
"""The kinds by name. Orbax's is a folder."""

_HEAD = 16
_NOT_OURS = {
    b"\x89HDF\r\n": 'an HDF5 file, as Keras writes; numpy.savez("weights.npz", **{v.path: v for v in model.weights}) gives what can be read',
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"\x08": "a message, as ONNX and TensorFlow write",
}


def kind_of(path: str | PathLike[str]) -> str:
    """The kind that a file to write is meant to be, by its ending. Raises ValueError."""
    suffix = Path(path).suffix.lower()
    for name, kind in KINDS.items():
        if suffix in kind.suffixes:
            return name
    known = join_alternatives(suffix for kind in KINDS.values() for suffix in kind.suffixes if suffix)
    raise ValueError(f"{fspath(path)} ends in {suffix!r}; a file ends in {known}, and a folder for Orbax in nothing")


def read(path: str | PathLike[str]) -> Checkpoint:
    """The checkpoint at a path: its names, shapes and types; arrays are read when asked for.

    Raises CheckpointError, FileNotFoundError, and BackendError where a library that it takes is not installed.
    """
    name = fspath(path)
    if not Path(name).exists():
        raise FileNotFoundError(f"no weights file named {name!r}")
    try:
        module = import_module(f"resnet_spec.checkpoints.formats.{_reader(name)}")
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{name} is an Orbax checkpoint, which needs {error.name}, which is not installed; try: pip install 'resnet-spec[flax]'"
        ) from None
    checkpoint: Checkpoint = module.read(name)
    return checkpoint


def write(path: str | PathLike[str], kind: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a checkpoint, each array as it is read: whole, or not at all."""
    module = import_module(f"resnet_spec.checkpoints.formats.{KINDS[kind].writer}")
    with creating(path) if kind == "orbax" else replacing(path) as part:
        module.write(part, tensors, metadata)


def _reader(path: str) -> str:
    """The file here that reads a path, by its first bytes. Raises CheckpointError."""
    if Path(path).is_dir():
        return "orbax_reader"
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if head[8:9] == b"{":  # where the eight bytes of a safetensors header's length end; they may look like anything
        return "safetensors_file"
    if head.startswith(b"PK") or (is_zipfile(path) and not head.startswith(b"\x80")):
        return "torch_zip" if any(name.endswith(".pkl") for name in zip_archive.archive(path).entries) else "npz"
    if head[:1] == b"\x80":
        return "torch_legacy" if head[2:].startswith(MAGIC) else "paddle_pickle"
    if Path(path).suffix == ".safetensors":
        return "safetensors_file"
    for start, what in _NOT_OURS.items():
        if head.startswith(start):
            raise CheckpointError(f"{path} is no checkpoint that is known, but {what}")
    raise CheckpointError(f"{path} is no checkpoint that is known: it starts with {head!r}")
