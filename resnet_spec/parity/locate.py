"""Which part is to blame: each part alone on the reference's input, forwards and backwards, separates the cause from what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import numpy as np

from resnet_spec.backend import OUTPUT
from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
from resnet_spec.parity.compare import error
from resnet_spec.weights.canonical import Array

Alone: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Runs parts, each on an input of its own: outputs by path from inputs by path."""


def inputs(network: Network, images: Array, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What every part is given, by path, from what every part gives; the network's own under ""."""
    found = {OUTPUT: images}
    _row(network.parts, images, outputs, found)
    return found


def _row(parts: Iterable[Part], x: Array, outputs: Mapping[str, Array], found: dict[str, Array]) -> Array:
    for part in parts:
        found[part.path] = x
        match part:
            case Leaf():
                pass
            case Chain():
                _row(part.parts, x, outputs, found)
            case Residual():
                y = _row(part.before, x, outputs, found)
                branch = _row(part.branch, y, outputs, found)
                shortcut = _row(part.shortcut, y if part.reads == "before" else x, outputs, found)
                _row(part.after, _combined(part, branch, shortcut), outputs, found)
            case Parallel():
                _branches(part, x, outputs, found)
        x = outputs[part.path]
    return x


def _branches(part: Parallel, x: Array, outputs: Mapping[str, Array], found: dict[str, Array]) -> None:
    before: Array | None = None
    for index, branch in enumerate(part.branches):
        given = np.split(x, len(part.branches), axis=1)[index] if part.split else x
        cascaded = part.cascade and branch and before is not None
        before = _row(branch, given + before if cascaded else given, outputs, found)


def _combined(part: Residual, branch: Array, shortcut: Array) -> Array:
    if part.combine == "add":
        return branch + shortcut
    return shortcut * branch.reshape(*branch.shape, *[1] * (shortcut.ndim - branch.ndim))


def blamed(
    network: Network, given: Mapping[str, Array], wanted: Mapping[str, Array], alone: Alone, gate: float
) -> tuple[str, ...]:
    """The paths of parts that are off alone, though nothing within them is; "" for the network as a whole."""
    leaves = [leaf.path for leaf in network.leaves()]
    off = _off(leaves, given, wanted, alone, gate)
    if off:
        return tuple(off)
    holders = [part.path for part in network.nodes() if not isinstance(part, Leaf)]
    off = _off([*holders, OUTPUT], given, wanted, alone, gate)
    return tuple(path for path in off if not any(other != path and _within(other, path) for other in off))


def _off(
    paths: list[str], given: Mapping[str, Array], wanted: Mapping[str, Array], alone: Alone, gate: float
) -> list[str]:
    found = alone({path: given[path] for path in paths})
    return [path for path in paths if not error(wanted[path], found.get(path)) <= gate]


def _within(path: str, holder: str) -> bool:
    return holder == OUTPUT or path.startswith(f"{holder}.")
