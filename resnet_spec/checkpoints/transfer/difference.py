"""How the weights of two checkpoints differ: by name, by how much, and where. Their formats and dialects may differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint, Tensor, raw
from resnet_spec.checkpoints.naming.mapping import plain
from resnet_spec.checkpoints.transfer.convert import meant
from resnet_spec.checkpoints.transfer.matching import fit
from resnet_spec.library.load import Setting
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class Difference:
    """One array in two files.

    Attributes:
        identical: Whether type and bits are the same.
        worst: The largest difference of two numbers; infinite where one is none.
        relative: The same, relative to the first array's largest magnitude.
        at: Where it is, and the two numbers there.
    """

    name: str
    shape: Shape
    dtypes: tuple[str, str]
    identical: bool
    worst: float
    relative: float
    at: tuple[int, ...]
    values: tuple[float, float]


def differences(
    one: str | PathLike[str],
    other: str | PathLike[str],
    spec: str | PathLike[str] | Network | None = None,
    settings: Mapping[str, Setting] | None = None,
    progress: Callable[[str], object] | None = None,
) -> list[Difference]:
    """Every array of two checkpoints, compared. Without a spec they need to name a network, or their arrays alike.

    Raises WeightsError where a file does not fit the spec, CheckpointError, and ValueError where names or shapes do not agree.
    """
    first, second = registry.read(one), registry.read(other)
    a, b = _alike(first, second, spec, settings or {})
    found = []
    for name, tensor in a.items():
        if progress is not None:
            progress(name)
        found.append(_difference(name, tensor.read(), b[name].read()))
    return found


def _alike(
    first: Checkpoint, second: Checkpoint, spec: str | PathLike[str] | Network | None, settings: Mapping[str, Setting]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    a, b = ({plain(name): tensor for name, tensor in file.tensors.items()} for file in (first, second))
    same = a.keys() == b.keys() and all(a[name].shape == b[name].shape for name in a)
    if spec is None and same and first.layout == second.layout:
        return a, b
    # One of the files may say what both are.
    saying = first if spec is not None or "spec" in first.metadata else second
    network = meant(saying, spec, settings)
    return fit(network, first).tensors(), fit(network, second).tensors()


def _difference(name: str, a: Array, b: Array) -> Difference:
    identical = a.dtype == b.dtype and raw(a) == raw(b)
    dtypes = (str(a.dtype), str(b.dtype))
    if identical or not a.size:
        return Difference(name, a.shape, dtypes, identical, 0.0, 0.0, (), (0.0, 0.0))
    wide, other = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(wide - other)
    both = (wide == other) | (np.isnan(wide) & np.isnan(other))
    off = np.where(both, 0.0, np.where(np.isfinite(off), off, np.inf))
    at = np.unravel_index(int(off.argmax()), off.shape)
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=0.0)
    worst = float(off[at])
    values = (float(wide[at]), float(other[at]))
    relative = worst / float(scale) if scale else worst
    return Difference(name, a.shape, dtypes, False, worst, relative, tuple(map(int, at)), values)
