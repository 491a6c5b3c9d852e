"""Read Orbax checkpoint folders by tensorstore, which Orbax uses too, but one array at a time."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.metadata import find_checksums
from resnet_spec.checkpoints.formats.recognition import describe_folder
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
    MAX_NAME_LENGTH,
    Checkpoint,
    CheckpointError,
    Tensor,
    add_tensor,
    check_total_size,
    describe_cause,
    limit_repeated,
    make_unread,
    quote,
    validate_shape,
    view_bytes,
)
from resnet_spec.weights.canonical import Array

FORMAT = "Orbax checkpoint"

_TREE_FILE, _METADATA_FILE = "_METADATA", "_CHECKPOINT_METADATA"
_ARRAY_TYPES = {"jax.Array", "np.ndarray", "scalar"}
_EMPTY_TYPES = {"None", "Dict", "List", "Tuple", "NamedTuple", "string"}
_KNOWN_DTYPES = set(DTYPES.values())
_MAX_DEPTH = 3
_MAX_FOLDERS = 1000
"""Folders of each depth among which a checkpoint's is looked for."""
_TIMEOUT_SECONDS = 300


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a folder's arrays. Raises CheckpointError."""
    root, notes = _find_root(path)
    size = _measure_folder(path, root)
    tree = _read_json(path, root / _TREE_FILE, size)
    metadata = _read_metadata(path, root, size)
    kinds = _list_arrays(path, tree)
    stores = {name: _open_store(path, root, name, tree) for name, kind in kinds.items() if kind in _ARRAY_TYPES}
    checksums = find_checksums(path, metadata, stores)
    tensors: dict[str, Tensor] = {}
    for name, kind in kinds.items():
        if name in stores:
            tensor = _make_tensor(path, name, _wait(path, name, stores[name].result), checksums.get(name), size)
        else:
            tensor = make_unread(path, name, f"of the type {quote(kind)}", "save it as an array of numbers")
        add_tensor(path, tensors, name, tensor)
    check_total_size(path, tensors.values(), size)
    return Checkpoint(path, FORMAT, "nnx", tensors, metadata, notes)


def _find_root(path: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the checkpoint itself, which may be inside ``path``, and notes for the user.

    A checkpoint manager writes one folder for each training step.
    """
    folder = Path(path)
    level = [folder]
    for _ in range(_MAX_DEPTH + 1):
        roots = [inner for inner in level if (inner / _TREE_FILE).is_file()]
        if roots == [folder]:
            return folder, ()
        if len(roots) == 1:
            return roots[0], (f"the checkpoint is in {roots[0].relative_to(folder)}",)
        if roots:
            names = ", ".join(str(root.relative_to(folder)) for root in roots[:8])
            raise CheckpointError(f"{path} holds several checkpoints; choose one of {names}")
        level = sorted(islice((inner for outer in level for inner in _list_folders(outer)), _MAX_FOLDERS))
    raise CheckpointError(describe_folder(path))


def _list_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in islice(entries, _MAX_FOLDERS) if Path(entry.path).is_dir()]


def _measure_folder(path: str, root: Path) -> int:
    """Return the bytes in a folder's files. Raises CheckpointError if it holds anything but files and folders."""
    size = 0
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if not entry.is_file() and (not entry.is_dir() or entry.is_symlink()):
                raise CheckpointError(f"{path} is damaged: {quote(name)} in it is neither a file nor a folder")
            size += entry.stat().st_size if entry.is_file() else 0
    return size


def _read_json(path: str, file: Path, size: int) -> dict[str, Any]:
    """Return the JSON object in a file of a folder of ``size`` bytes."""
    byte_ranges.check_header_size(path, f"file {file.name}", file.stat().st_size, size)
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: expected a JSON object in {file.name}")
    return data


def _read_metadata(path: str, root: Path, size: int) -> dict[str, str]:
    file = root / _METADATA_FILE
    metadata = _read_json(path, file, size).get("custom_metadata") if file.is_file() else None
    metadata = metadata if isinstance(metadata, dict) else {}
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def _list_arrays(path: str, tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the types of the arrays by name: their keys joined by dots, as in the store."""
    nodes = tree.get("tree_metadata")
    kinds: dict[str, str] = {}
    for node in nodes.values() if isinstance(nodes, dict) else [None]:
        match node:
            case {"key_metadata": list(keys), "value_metadata": {"value_type": str(kind)}}:
                name = ".".join(str(key.get("key")) if isinstance(key, dict) else "" for key in keys)
            case _:
                raise CheckpointError(f"{path} is damaged: expected the names of arrays in {_TREE_FILE}")
        if kind in _EMPTY_TYPES:
            continue
        if "/" in name or not name.strip(".") or len(name) > MAX_NAME_LENGTH:
            raise CheckpointError(f"{path} is damaged: {quote(name)} can't be the name of an array")
        if name in kinds:
            raise CheckpointError(f"{path} is damaged: two of its arrays are called {name!r}")
        kinds[name] = kind
    return kinds


def _open_store(path: str, root: Path, key: str, tree: Mapping[str, Any]) -> Any:
    base = f"{root.resolve()}/"
    store = {"driver": "file", "path": f"{base}{key}/"}
    if tree.get("use_ocdbt", True):
        store = {"driver": "ocdbt", "base": f"file://{urllib.parse.quote(base)}", "path": f"{key}/"}
    driver = "zarr3" if tree.get("use_zarr3") else "zarr"
    # By default tensorstore returns zeros for chunks that are missing.
    spec = {"driver": driver, "kvstore": store, "fill_missing_data_reads": False}
    return _wait(path, key, lambda timeout: tensorstore.open(spec, read=True))


def _make_tensor(path: str, name: str, store: Any, checksum: int | None, size: int) -> Tensor:
    """Return the tensor in a store. Raises CheckpointError if it, or one of its chunks, takes too much memory."""
    dtype = store.dtype.numpy_dtype
    if dtype not in _KNOWN_DTYPES:
        return make_unread(path, name, f"of the type {quote(store.dtype.name)}", "save it as an array of numbers")
    limit = limit_repeated(size)
    tensor = Tensor(
        validate_shape(path, name, store.shape, dtype.itemsize, limit),
        dtype,
        partial(_read_array, path, name, store, checksum),
    )
    # A chunk is decompressed as a whole, and then copied into the array.
    chunk, rest = store.chunk_layout.read_chunk.shape or (), limit - tensor.nbytes
    validate_shape(path, f"a chunk of {name}", chunk, dtype.itemsize, rest)
    return tensor


def _wait(path: str, name: str, get: Callable[..., Any]) -> Any:
    """Return what tensorstore gives, which it may wait for. Raises CheckpointError."""
    try:
        return get(timeout=_TIMEOUT_SECONDS)
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {name!r} can't be read: {describe_cause(error)}") from None


def _read_array(path: str, name: str, store: Any, checksum: int | None) -> Array:
    array = np.asarray(_wait(path, name, store.read().result), order="C")
    if checksum is not None:
        byte_ranges.check_checksum(path, name, crc32(view_bytes(array)), checksum)
    return array
