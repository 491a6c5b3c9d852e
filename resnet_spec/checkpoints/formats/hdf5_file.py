"""Keras's files: HDF5 (``.h5``, ``.weights.h5``), and the archive of a model (``.keras``), by h5py."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from resnet_spec.checkpoints.formats import byte_ranges, zip_archive
from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.tensors import (
    DTYPES,
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
)
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

FORMAT = "Keras file (HDF5)"
MEMBER = "model.weights.h5"
"""The entry of a ``.keras`` archive that holds the weights."""

_LISTS = ("layers", "_layers", "_layer_checkpoint_dependencies", "vars")
"""Groups of a file of Keras 3 that are no layers."""
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_KNOWN = set(DTYPES.values())
_MAX_DEPTH, _GROUP_COST, _TENSOR_COST = 24, 400, 1500

Opener: TypeAlias = Callable[[], Any]
"""Returns what h5py opens: a path, or a file of bytes."""


def read(path: str) -> Checkpoint:
    """Read the names and shapes of a file's arrays. Raises CheckpointError."""
    size = Path(path).stat().st_size
    opener = _find_opener(path)
    tensors: dict[str, Tensor] = {}
    with _open(path, opener) as file:
        walker = _Walker(path, Budget(path, size))
        for name, place, dataset in walker.walk(file, "", 0):
            add_tensor(path, tensors, name, _make_tensor(path, opener, name, place, dataset, size))
    check_total_size(path, tensors.values(), size)
    return Checkpoint(path, FORMAT, "keras", tensors)


def _find_opener(path: str) -> Opener:
    """Return a function that opens the HDF5 file, which may be an entry of an archive."""
    with Path(path).open("rb") as file:
        if not file.read(2).startswith(b"PK"):
            return lambda: path
    entry = zip_archive.read_directory(path).entries.get(MEMBER)
    if entry is None:
        raise CheckpointError(f"{path} is a Keras archive without {MEMBER}")
    if not entry.deflated:
        return lambda: byte_ranges.FileRange(path, entry.offset, entry.size)
    data = zip_archive.read(path, entry).data
    return lambda: io.BytesIO(data)


@contextmanager
def _open(path: str, opener: Opener) -> Iterator[Any]:
    """Yield the open file. What the HDF5 library refuses is raised as CheckpointError."""
    try:
        source = opener()
        with h5py.File(source, "r", **({"locking": False} if isinstance(source, str) else {})) as file:
            yield file
        if not isinstance(source, str):
            source.close()
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # of any kind: h5py does not say which it raises for a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CheckpointError(f"{path} is damaged: the HDF5 library says: {describe_cause(error)}") from None


class _Walker:
    """Finds the datasets of a file. Links to other files, and groups that hold themselves, are refused."""

    def __init__(self, path: str, budget: Budget) -> None:
        self.path, self.budget = path, budget
        self.open: set[int] = set()

    def walk(self, group: Any, name: str, depth: int) -> Iterator[tuple[str, str, Any]]:
        """Yield each dataset with its name and its path in the file."""
        address = h5py.h5o.get_info(group.id).addr
        if depth > _MAX_DEPTH or address in self.open:
            raise CheckpointError(f"{self.path} is damaged: groups that hold themselves, or are nested too deep")
        self.open.add(address)
        known = _list_weight_names(group)
        for key in group:
            self.budget.spend(_GROUP_COST + len(key))
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise CheckpointError(f"{self.path}: {quote(key)} is a link, possibly to another file; save it without")
            item = group[key]
            if isinstance(item, h5py.Group):
                if known and key in known:  # a legacy file lists the full names of a layer's weights
                    yield from self.walk_listed(item, known[key])
                else:
                    yield from self.walk(item, _join(name, self.name_layer(item, key)), depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.budget.spend(_TENSOR_COST)
                yield _join(name, key), item.name, item
        self.open.remove(address)

    def walk_listed(self, group: Any, names: list[str]) -> Iterator[tuple[str, str, Any]]:
        for name in names:
            self.budget.spend(_TENSOR_COST + len(name))
            item = group
            for part in name.split("/"):
                if not isinstance(item, h5py.Group) or not isinstance(item.get(part, getlink=True), h5py.HardLink):
                    raise CheckpointError(f"{self.path} is damaged: expected an array {quote(name)} in {group.name!r}")
                item = item[part]
            if isinstance(item, h5py.Dataset):
                yield name, item.name, item

    def name_layer(self, group: Any, key: str) -> str:
        """Return a layer's own name, which Keras 3 keeps as an attribute of the group of its variables."""
        if key in _LISTS:
            return key if key == "vars" else ""
        inner = group["vars"] if isinstance(group.get("vars", getlink=True), h5py.HardLink) else None
        name = inner.attrs.get("name") if isinstance(inner, h5py.Group) else None
        return name.replace(".", "_") if isinstance(name, str) and name.isprintable() and name else key


def _list_weight_names(group: Any) -> dict[str, list[str]]:
    """Return the names of the weights of each layer in a file of Keras before version 3, or {}."""
    if "layer_names" not in group.attrs:
        return {}
    names = {}
    for layer in group:
        inner = group.get(layer) if isinstance(group.get(layer, getlink=True), h5py.HardLink) else None
        if isinstance(inner, h5py.Group) and "weight_names" in inner.attrs:
            listed = np.asarray(inner.attrs["weight_names"]).reshape(-1)
            names[layer] = [
                item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in listed
            ]
    return names


def _join(name: str, key: str) -> str:
    return f"{name}/{key}" if name and key else name or key


def _make_tensor(path: str, opener: Opener, name: str, place: str, dataset: Any, size: int) -> Tensor:
    shape, dtype = dataset.shape, dataset.dtype
    limit = limit_repeated(size)
    if shape is None or dtype.newbyteorder("=") not in _KNOWN:
        return make_unread(path, name, f"an array of {describe_cause(ValueError(dtype))}", "save it in a numeric type")
    if dataset.external or dataset.is_virtual or not _list_filters(dataset) <= _FILTERS:
        return make_unread(
            path, name, "an array that HDF5 keeps elsewhere, or compressed by a plug-in", "save it plainly"
        )
    shape = validate_shape(path, name, shape, dtype.itemsize, limit)
    # The library reads a chunk as a whole, and fills what is not stored with zeros.
    validate_shape(path, f"a chunk of {name}", dataset.chunks or (), dtype.itemsize, limit)
    if dataset.chunks is None and dataset.id.get_storage_size() < math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{path} is damaged: {name!r} claims {shape} of {dtype}, but holds fewer bytes")
    return Tensor(shape, dtype.newbyteorder("="), partial(_read_array, path, opener, place, shape))


def _list_filters(dataset: Any) -> set[int]:
    properties = dataset.id.get_create_plist()
    return {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}


def _read_array(path: str, opener: Opener, place: str, shape: Shape) -> Array:
    with _open(path, opener) as file:
        array = np.asarray(file[place][()])
    if array.shape != shape:
        raise CheckpointError(f"{path} has changed: expected {place!r} in the shape {shape}, found {array.shape}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
