"""Orbax checkpoint folders, read by tensorstore, as Orbax itself does, but one array at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from resnet_spec.checkpoints.formats import byte_ranges, metadata
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, bounded, raw
from resnet_spec.weights.canonical import Array

FORMAT = "Orbax checkpoint"

_NAMES, _SAID = "_METADATA", "_CHECKPOINT_METADATA"
_ARRAYS = {"jax.Array", "np.ndarray", "scalar"}
_DEEPEST = 3
_LARGEST = 2**24  # bytes of JSON
_SECONDS = 300
_MOST_COMPRESSED = 1000  # times


def read(path: str) -> Checkpoint:
    """The arrays of a folder. Raises CheckpointError."""
    root, notes = _root(path)
    named = _json(path, root / _NAMES)
    said = _said(path, root)
    opened = {name: _opened(root, name, named) for name in _names(path, named)}
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    expected = metadata.checksums(said, opened)
    tensors = {}
    for name, future in opened.items():
        store = _result(path, name, future)
        dtype = store.dtype.numpy_dtype
        shape = bounded(path, name, store.shape, dtype.itemsize, _MOST_COMPRESSED * size)
        tensors[name] = Tensor(shape, dtype, partial(_array, path, name, store, expected.get(name)))
    return Checkpoint(path, FORMAT, "nnx", tensors, said, notes)


def _root(path: str) -> tuple[Path, tuple[str, ...]]:
    """The folder itself, or the one within it that holds a checkpoint, as where there is one for each step."""
    folder = Path(path)
    if (folder / _NAMES).is_file():
        return folder, ()
    for deep in range(1, _DEEPEST + 1):
        found = sorted(file.parent for file in folder.glob("*/" * deep + _NAMES))
        if len(found) == 1:
            return found[0], (f"the checkpoint is in {found[0].relative_to(folder)}",)
        if found:
            several = ", ".join(str(one.relative_to(folder)) for one in found[:8])
            raise CheckpointError(f"{path} holds several checkpoints; name one of {several}")
    raise CheckpointError(f"{path} is no Orbax checkpoint: expected a file {_NAMES} in it, found none")


def _json(path: str, file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes()) if file.stat().st_size < _LARGEST else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: expected JSON in {file.name}")
    return data


def _said(path: str, root: Path) -> dict[str, str]:
    file = root / _SAID
    custom = _json(path, file).get("custom_metadata") if file.is_file() else None
    custom = custom if isinstance(custom, dict) else {}
    return {key: value for key, value in custom.items() if isinstance(value, str)}


def _names(path: str, named: Mapping[str, Any]) -> list[str]:
    """The arrays' names: their keys, joined by dots, as in the store."""
    tree = named.get("tree_metadata")
    found = []
    for item in tree.values() if isinstance(tree, dict) else [None]:
        match item:
            case {"key_metadata": list(keys), "value_metadata": {"value_type": kind}}:
                name = ".".join(str(key.get("key")) if isinstance(key, dict) else "" for key in keys)
            case _:
                raise CheckpointError(f"{path} is damaged: expected the names of arrays in {_NAMES}")
        if "/" in name:
            raise CheckpointError(f"{path} is damaged: an array's name leads elsewhere, {name[:80]!r}")
        if kind in _ARRAYS:
            found.append(name)
    return found


def _opened(root: Path, key: str, named: Mapping[str, Any]) -> Any:
    base = f"{root.resolve()}/"
    store = {"driver": "file", "path": f"{base}{key}/"}
    if named.get("use_ocdbt", True):
        store = {"driver": "ocdbt", "base": f"file://{base}", "path": f"{key}/"}
    driver = "zarr3" if named.get("use_zarr3") else "zarr"
    # What is missing is not to be read as zeros.
    return tensorstore.open({"driver": driver, "kvstore": store, "fill_missing_data_reads": False}, read=True)


def _result(path: str, name: str, future: Any) -> Any:
    try:
        return future.result(timeout=_SECONDS)
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {name!r} can't be read: {str(error)[:200]}") from None


def _array(path: str, name: str, store: Any, expected: int | None) -> Array:
    found = np.asarray(_result(path, name, store.read()), order="C")
    if expected is not None:
        byte_ranges.matching(path, name, crc32(raw(found)), expected)
    return found
