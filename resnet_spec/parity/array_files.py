"""Files of named arrays, by which processes and machines exchange them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnet_spec.checkpoints.formats import safetensors_file
from resnet_spec.checkpoints.formats.tensors import Tensor
from resnet_spec.weights.canonical import Array


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a safetensors file."""
    # The number in front of each name keeps the order, which safetensors does not.
    numbered = enumerate(arrays.items())
    tensors = {f"{index:08} {name}": Tensor(array.shape, array.dtype, array.view) for index, (name, array) in numbered}
    safetensors_file.write(path, tensors, {})


def map_arrays(path: Path) -> dict[str, Array]:
    """Map the arrays of a file that ``write_arrays`` wrote into memory, in their order.

    They are read when they are used: the outputs of all parts of a large network, from four backends at once, may not
    fit into memory. They stay valid when the file is deleted. Raises CheckpointError, or OSError.
    """
    mapped = safetensors_file.map_arrays(str(path))
    return {name.partition(" ")[2]: mapped[name] for name in sorted(mapped)}
