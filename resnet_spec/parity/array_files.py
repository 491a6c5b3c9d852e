"""Arrays by name in a file, in their order: how processes and machines hand them to each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnet_spec.checkpoints.formats import safetensors_file
from resnet_spec.checkpoints.formats.tensors import Tensor
from resnet_spec.weights.canonical import Array


def put(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file, as safetensors."""
    in_order = enumerate(arrays.items())
    tensors = {f"{index:08} {name}": Tensor(array.shape, array.dtype, array.view) for index, (name, array) in in_order}
    safetensors_file.write(path, tensors, {})


def get(path: Path) -> dict[str, Array]:
    """The arrays of a file that ``put`` wrote, as views of it: a network's maps, four times over, are more than memory holds.

    They stay when the file is removed. Raises CheckpointError, OSError.
    """
    found = safetensors_file.mapped(str(path))
    return {name.partition(" ")[2]: found[name] for name in sorted(found)}
