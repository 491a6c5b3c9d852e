"""Orbax checkpoint folders, written: JSON that names the arrays, and each array as zarr, one chunk that is not compressed.

Bytes and JSON, for which no framework need be here. Orbax's own writer holds twice the weights in memory, and compresses them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from resnet_spec.checkpoints.formats import metadata
from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, Tensor, raw

_DICTIONARY = 2  # Orbax's number for a key of a dictionary


def write(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """A folder, as ``StandardCheckpointer().restore(path)`` opens it; names are cut at dots and slashes."""
    tree, sums = {}, []
    for name, tensor in tensors.items():
        keys = name.replace("/", ".").split(".")
        tree[str(tuple(keys))] = {
            "key_metadata": [{"key": key, "key_type": _DICTIONARY} for key in keys],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        data = raw(tensor.read())
        sums.append(f"{crc32(data):08x}")
        _array(path / ".".join(keys), tensor, data)
    options = {"use_ocdbt": False, "use_zarr3": False, "store_array_data_equal_to_fill_value": True}
    _json(path / "_METADATA", {"tree_metadata": tree, **options, "custom_metadata": None})
    now = time.time_ns()
    times = {"init_timestamp_nsecs": now, "commit_timestamp_nsecs": now}
    custom = {**said, metadata.CHECKSUMS: "".join(sums)}
    _json(path / "_CHECKPOINT_METADATA", {"item_handlers": None, "metrics": {}, **times, "custom_metadata": custom})


def _array(folder: Path, tensor: Tensor, data: memoryview) -> None:
    folder.mkdir()
    _json(
        folder / ".zarray",
        {
            "zarr_format": 2,
            "shape": tensor.shape,
            "chunks": [max(1, size) for size in tensor.shape],
            "dtype": "bfloat16" if tensor.dtype == BFLOAT16 else tensor.dtype.str,
            "order": "C",
            "compressor": None,
            "filters": None,
            "fill_value": None,
        },
    )
    (folder / (".".join("0" * len(tensor.shape)) or "0")).write_bytes(data)


def _json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")
