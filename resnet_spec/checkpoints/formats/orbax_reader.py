"""Read Orbax checkpoint folders by tensorstore, which Orbax uses too, but one array at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.metadata import find_checksums
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, validate_shape, view_bytes
from resnet_spec.weights.canonical import Array

FORMAT = "Orbax checkpoint"

_TREE_FILE, _METADATA_FILE = "_METADATA", "_CHECKPOINT_METADATA"
_ARRAY_TYPES = {"jax.Array", "np.ndarray", "scalar"}
_MAX_DEPTH = 3
_MAX_JSON_BYTES = 2**24
_TIMEOUT_SECONDS = 300
_MAX_COMPRESSION_RATIO = 1000


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a folder's arrays. Raises CheckpointError."""
    root, notes = _find_root(path)
    tree = _read_json(path, root / _TREE_FILE)
    metadata = _read_metadata(path, root)
    stores = {name: _open_store(root, name, tree) for name in _list_arrays(path, tree)}
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    checksums = find_checksums(metadata, stores)
    tensors = {}
    for name, future in stores.items():
        store = _wait(path, name, future)
        dtype = store.dtype.numpy_dtype
        shape = validate_shape(path, name, store.shape, dtype.itemsize, _MAX_COMPRESSION_RATIO * size)
        tensors[name] = Tensor(shape, dtype, partial(_read_array, path, name, store, checksums.get(name)))
    return Checkpoint(path, FORMAT, "nnx", tensors, metadata, notes)


def _find_root(path: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the checkpoint itself, which may be inside ``path``, and notes for the user.

    A checkpoint manager writes one folder for each training step.
    """
    folder = Path(path)
    if (folder / _TREE_FILE).is_file():
        return folder, ()
    for depth in range(1, _MAX_DEPTH + 1):
        roots = sorted(file.parent for file in folder.glob("*/" * depth + _TREE_FILE))
        if len(roots) == 1:
            return roots[0], (f"the checkpoint is in {roots[0].relative_to(folder)}",)
        if roots:
            names = ", ".join(str(root.relative_to(folder)) for root in roots[:8])
            raise CheckpointError(f"{path} holds several checkpoints; choose one of {names}")
    raise CheckpointError(f"{path} is not an Orbax checkpoint: expected a file {_TREE_FILE} in it, found none")


def _read_json(path: str, file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes()) if file.stat().st_size < _MAX_JSON_BYTES else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: expected a JSON object in {file.name}")
    return data


def _read_metadata(path: str, root: Path) -> dict[str, str]:
    file = root / _METADATA_FILE
    metadata = _read_json(path, file).get("custom_metadata") if file.is_file() else None
    metadata = metadata if isinstance(metadata, dict) else {}
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def _list_arrays(path: str, tree: Mapping[str, Any]) -> list[str]:
    """Return the names of the arrays: their keys joined by dots, as in the store."""
    nodes = tree.get("tree_metadata")
    names = []
    for node in nodes.values() if isinstance(nodes, dict) else [None]:
        match node:
            case {"key_metadata": list(keys), "value_metadata": {"value_type": kind}}:
                name = ".".join(str(key.get("key")) if isinstance(key, dict) else "" for key in keys)
            case _:
                raise CheckpointError(f"{path} is damaged: expected the names of arrays in {_TREE_FILE}")
        if "/" in name:
            raise CheckpointError(f"{path} is damaged: the name of an array contains a slash, {name[:80]!r}")
        if kind in _ARRAY_TYPES:
            names.append(name)
    return names


def _open_store(root: Path, key: str, tree: Mapping[str, Any]) -> Any:
    base = f"{root.resolve()}/"
    store = {"driver": "file", "path": f"{base}{key}/"}
    if tree.get("use_ocdbt", True):
        store = {"driver": "ocdbt", "base": f"file://{base}", "path": f"{key}/"}
    driver = "zarr3" if tree.get("use_zarr3") else "zarr"
    # By default tensorstore returns zeros for chunks that are missing.
    return tensorstore.open({"driver": driver, "kvstore": store, "fill_missing_data_reads": False}, read=True)


def _wait(path: str, name: str, future: Any) -> Any:
    try:
        return future.result(timeout=_TIMEOUT_SECONDS)
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {name!r} can't be read: {str(error)[:200]}") from None


def _read_array(path: str, name: str, store: Any, checksum: int | None) -> Array:
    array = np.asarray(_wait(path, name, store.read()), order="C")
    if checksum is not None:
        byte_ranges.check_checksum(path, name, crc32(view_bytes(array)), checksum)
    return array
