"""Arrays by name in a file, in their order: how processes and machines hand them to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

from resnet_spec.formats import safetensors_file
from resnet_spec.formats.tensors import Tensor
from resnet_spec.weights import Array


def put(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file, as safetensors."""
    in_order = enumerate(arrays.items())
    tensors = {f"{index:08} {name}": Tensor(array.shape, array.dtype, array.view) for index, (name, array) in in_order}
    safetensors_file.write(path, tensors, {})


def get(path: Path) -> dict[str, Array]:
    """The arrays of a file that ``put`` wrote, as views of it: a network's maps, four times over, are more than memory holds.

    They stay when the file is removed. Raises SafetensorError, OSError.
    """
    with safe_open(path, framework="np"):
        pass  # it finds the header sound, and the file as long as that says
    data = np.memmap(path, np.uint8, mode="r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    found = {}
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        dtype = safetensors_file.DTYPES[header[name]["dtype"]]
        found[name.partition(" ")[2]] = data[start + begin : start + end].view(dtype).reshape(header[name]["shape"])
    return found
