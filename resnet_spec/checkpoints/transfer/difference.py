"""Compare the weights of two checkpoints, array by array. Their formats and dialects may differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint, Tensor, view_bytes
from resnet_spec.checkpoints.naming.mapping import normalize_name
from resnet_spec.checkpoints.transfer.convert import find_named, resolve_network
from resnet_spec.checkpoints.transfer.explanation import explain_misfit
from resnet_spec.checkpoints.transfer.matching import Matcher, interpret_checkpoint
from resnet_spec.checkpoints.transfer.prefixes import is_optimizer, is_under, list_mappings
from resnet_spec.library.load import Setting
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array, WeightsError

_MAX_READINGS = 8


@dataclass(frozen=True, slots=True)
class Difference:
    """How one array differs between two files.

    Attributes:
        shapes: The shape in each file; None if the file does not have the array.
        dtypes: The type in each file.
        identical: Whether shape, type and bits are equal.
        worst: The largest absolute difference; infinite if one of two numbers is NaN or infinite and the other differs,
            or if the arrays cannot be compared.
        relative: The same, relative to the largest magnitude in the first array.
        at: The index of the largest difference; () if the arrays are identical, empty or cannot be compared.
        values: The two numbers at this index.
    """

    name: str
    shapes: tuple[Shape | None, Shape | None]
    dtypes: tuple[str | None, str | None]
    identical: bool
    worst: float
    relative: float
    at: tuple[int, ...]
    values: tuple[float, float]

    @property
    def is_compared(self) -> bool:
        """Whether both files have the array in the same shape."""
        return self.shapes[0] == self.shapes[1]


def compare_checkpoints(
    first: str | PathLike[str],
    second: str | PathLike[str],
    spec: str | PathLike[str] | Network | None = None,
    settings: Mapping[str, Setting] | None = None,
    progress: Callable[[str], object] | None = None,
    under: tuple[str | None, str | None] = (None, None),
) -> list[Difference]:
    """Compare every array that is in both of two checkpoints, and list the arrays that are not.

    The spec may be left out if the files share names and layouts, or if one of them names a bundled network.
    ``progress`` is called with the name of each array. ``under`` is where the weights stand in each file, if known.

    Raises:
        CheckpointError: A file is damaged, or not a checkpoint in a known format.
        WeightsError: A file has no weight of the spec, or does not tell the layout of its arrays.
        ValueError: There is no spec, but one is needed.
    """
    checkpoints = registry.read(first), registry.read(second)
    first_tensors, second_tensors = _align(*checkpoints, spec, settings or {}, under)
    differences = []
    for name in dict.fromkeys((*first_tensors, *second_tensors)):
        if progress is not None:
            progress(name)
        differences.append(_compare_tensors(name, first_tensors.get(name), second_tensors.get(name)))
    return differences


def _align(
    first: Checkpoint,
    second: Checkpoint,
    spec: str | PathLike[str] | Network | None,
    settings: Mapping[str, Setting],
    under: tuple[str | None, str | None],
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the tensors of two checkpoints by names that they share: the files' own if they agree, else canonical."""
    if spec is None and first.layout == second.layout:
        for a in _list_readings(first, under[0]):
            for b in _list_readings(second, under[1]):
                if a.keys() == b.keys() or (not _names_network(first, second) and _share_most(a, b)):
                    return a, b
    source = first if spec is not None or "spec" in first.metadata else second
    network = resolve_network(source, spec, settings)
    return _present_tensors(network, first, under[0]), _present_tensors(network, second, under[1])


def _list_readings(checkpoint: Checkpoint, under: str | None) -> list[dict[str, Tensor]]:
    """Return a checkpoint's tensors by normalized name: all of them, then those under each prefix of many names."""
    tensors, matcher = checkpoint.tensors, Matcher(checkpoint, under)
    names = matcher.names
    known = [prefix for prefix in list_mappings(names, _MAX_READINGS) if not is_optimizer(prefix)]
    whole = [] if under else [{normalize_name(name): tensor for name, tensor in tensors.items()}]
    return whole + [
        {
            name.removeprefix(f"{prefix}.") if prefix else name: matcher.checkpoint.tensors[full]
            for name, full in names.items()
            if is_under(name, prefix) and not is_optimizer(name)
        }
        for prefix in (matcher.under or "", *known)
    ]


def _names_network(*checkpoints: Checkpoint) -> bool:
    return any(find_named(checkpoint) is not None for checkpoint in checkpoints)


def _share_most(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Return whether most arrays of the smaller checkpoint have a name that the other has too."""
    return len(first.keys() & second.keys()) > min(len(first), len(second)) / 2


def _present_tensors(network: Network, checkpoint: Checkpoint, under: str | None) -> dict[str, Tensor]:
    interpretation = interpret_checkpoint(network, checkpoint, under)
    if not interpretation.found:
        raise WeightsError(interpretation.find_problems(), explain_misfit(interpretation.describe_fit()))
    return interpretation.present_tensors()


def _compare_tensors(name: str, first: Tensor | None, second: Tensor | None) -> Difference:
    if first is not None and second is not None and first.shape == second.shape:
        return _compare_arrays(name, first.read(), second.read())
    shapes = tuple(None if tensor is None else tensor.shape for tensor in (first, second))
    dtypes = tuple(None if tensor is None else str(tensor.dtype) for tensor in (first, second))
    nothing = (math.nan, math.nan)
    return Difference(name, (shapes[0], shapes[1]), (dtypes[0], dtypes[1]), False, math.inf, math.inf, (), nothing)


def _compare_arrays(name: str, first: Array, second: Array) -> Difference:
    is_identical = first.dtype == second.dtype and view_bytes(first) == view_bytes(second)
    dtypes = (str(first.dtype), str(second.dtype))
    if is_identical or not first.size:
        return Difference(name, (first.shape, second.shape), dtypes, is_identical, 0.0, 0.0, (), (0.0, 0.0))
    a, b = _as_floats(first), _as_floats(second)
    if a.shape != b.shape:  # one of them is complex
        a, b = (_as_floats(array.astype(np.complex128)) for array in (first, second))
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    is_equal = (a == b) | (np.isnan(a) & np.isnan(b))
    distance = np.where(is_equal, 0.0, np.where(np.isfinite(distance), distance, np.inf))
    at = np.unravel_index(int(distance.argmax()), distance.shape)
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    worst = float(distance[at])
    relative = worst / scale if scale else worst
    values = (float(a[at]), float(b[at]))
    return Difference(name, (first.shape, second.shape), dtypes, False, worst, relative, tuple(map(int, at)), values)


def _as_floats(array: Array) -> Array:
    """Return an array in float64; a complex one with one more axis, of its real and imaginary parts."""
    if np.iscomplexobj(array):
        return np.stack([array.real, array.imag], axis=-1).astype(np.float64)
    return array.astype(np.float64)
