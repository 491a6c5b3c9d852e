"""Write Orbax checkpoint folders: JSON that names the arrays, and each array as zarr, in one uncompressed chunk.

No framework is needed for that. Orbax's own writer holds twice the weights in memory, and compresses them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from resnet_spec.checkpoints.formats.checksum import crc32
from resnet_spec.checkpoints.formats.metadata import add_checksums
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, Tensor, view_bytes

_DICTIONARY_KEY = 2  # Orbax's code for the type of a key


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a folder that ``StandardCheckpointer().restore(path)`` opens, with names split at dots and slashes."""
    tree, checksums = {}, []
    for name, tensor in tensors.items():
        keys = name.replace("/", ".").split(".")
        tree[str(tuple(keys))] = {
            "key_metadata": [{"key": key, "key_type": _DICTIONARY_KEY} for key in keys],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        data = view_bytes(tensor.read())
        checksums.append(crc32(data))
        _write_array(path / ".".join(keys), tensor, data)
    options = {"use_ocdbt": False, "use_zarr3": False, "store_array_data_equal_to_fill_value": True}
    _write_json(path / "_METADATA", {"tree_metadata": tree, **options, "custom_metadata": None})
    now = time.time_ns()
    times = {"init_timestamp_nsecs": now, "commit_timestamp_nsecs": now}
    custom = add_checksums(metadata, checksums)
    checkpoint = {"item_handlers": None, "metrics": {}, **times, "custom_metadata": custom}
    _write_json(path / "_CHECKPOINT_METADATA", checkpoint)


def _write_array(folder: Path, tensor: Tensor, data: memoryview) -> None:
    folder.mkdir()
    _write_json(
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


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")
