"""Arrays by name in a file, in their order: how processes and machines hand them to each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from resnet_spec.weights import Array


def put(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file, as safetensors."""
    in_order = enumerate(arrays.items())
    save_file({f"{index:08} {name}": np.asarray(array, order="C") for index, (name, array) in in_order}, path)


def get(path: Path) -> dict[str, Array]:
    """The arrays of a file that ``put`` wrote."""
    return {name.partition(" ")[2]: array for name, array in sorted(load_file(path).items())}
