"""Compare the weights of two checkpoints, array by array. Their formats and dialects may differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint, Tensor, view_bytes
from resnet_spec.checkpoints.naming.mapping import normalize_name
from resnet_spec.checkpoints.transfer.convert import resolve_network
from resnet_spec.checkpoints.transfer.matching import interpret_checkpoint
from resnet_spec.library.load import Setting
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class Difference:
    """How one array differs between two files.

    Attributes:
        identical: Whether type and bits are equal.
        worst: The largest absolute difference; infinite if one of two numbers is NaN or infinite and the other differs.
        relative: The same, relative to the largest magnitude in the first array.
        at: The index of the largest difference; () if the arrays are identical or empty.
        values: The two numbers at this index.
    """

    name: str
    shape: Shape
    dtypes: tuple[str, str]
    identical: bool
    worst: float
    relative: float
    at: tuple[int, ...]
    values: tuple[float, float]


def compare_checkpoints(
    first: str | PathLike[str],
    second: str | PathLike[str],
    spec: str | PathLike[str] | Network | None = None,
    settings: Mapping[str, Setting] | None = None,
    progress: Callable[[str], object] | None = None,
) -> list[Difference]:
    """Compare every array of two checkpoints.

    The spec may be left out if the files have the same names and shapes, or if one of them names a bundled network.
    ``progress`` is called with the name of each array.

    Raises:
        CheckpointError: A file is damaged, or not a checkpoint in a known format.
        WeightsError: A file does not fit the spec.
        ValueError: There is no spec, but one is needed.
    """
    first_tensors, second_tensors = _align(registry.read(first), registry.read(second), spec, settings or {})
    differences = []
    for name, tensor in first_tensors.items():
        if progress is not None:
            progress(name)
        differences.append(_compare_arrays(name, tensor.read(), second_tensors[name].read()))
    return differences


def _align(
    first: Checkpoint, second: Checkpoint, spec: str | PathLike[str] | Network | None, settings: Mapping[str, Setting]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the tensors of two checkpoints by names that they share: the files' own if they agree, else canonical."""
    a, b = ({normalize_name(name): tensor for name, tensor in file.tensors.items()} for file in (first, second))
    are_alike = a.keys() == b.keys() and all(a[name].shape == b[name].shape for name in a)
    if spec is None and are_alike and first.layout == second.layout:
        return a, b
    source = first if spec is not None or "spec" in first.metadata else second
    network = resolve_network(source, spec, settings)
    return (
        interpret_checkpoint(network, first).canonical_tensors(),
        interpret_checkpoint(network, second).canonical_tensors(),
    )


def _compare_arrays(name: str, first: Array, second: Array) -> Difference:
    is_identical = first.dtype == second.dtype and view_bytes(first) == view_bytes(second)
    dtypes = (str(first.dtype), str(second.dtype))
    if is_identical or not first.size:
        return Difference(name, first.shape, dtypes, is_identical, 0.0, 0.0, (), (0.0, 0.0))
    a, b = first.astype(np.float64), second.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    is_equal = (a == b) | (np.isnan(a) & np.isnan(b))
    distance = np.where(is_equal, 0.0, np.where(np.isfinite(distance), distance, np.inf))
    at = np.unravel_index(int(distance.argmax()), distance.shape)
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    worst = float(distance[at])
    relative = worst / scale if scale else worst
    values = (float(a[at]), float(b[at]))
    return Difference(name, first.shape, dtypes, False, worst, relative, tuple(map(int, at)), values)
