"""Which part is to blame: each part alone on the reference's input, forwards and backwards, separates the cause from what follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from resnet_spec.backend import OUTPUT
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part, Residual
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.parity.compare import error
from resnet_spec.weights.canonical import Array

Alone: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Runs parts, each on an input of its own: outputs by path from inputs by path."""


def inputs(network: Network, images: Array, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the input of every part by path, worked out from the recorded output of every part; the network's own under ""."""
    found = {OUTPUT: images}

    def leave(part: Part, x: Array, y: Array) -> tuple[Part, Array]:
        found[part.path] = x
        return part, outputs[part.path]

    rules: Rules[Array] = Rules(
        leaf=lambda leaf, x: (leaf, x),
        combine=_combined,
        join=lambda part, x, branches: x,  # replaced by what is recorded
        split=lambda part, x: np.split(x, len(part.branches), axis=1) if part.split else [x] * len(part.branches),
        cascade=lambda part, index, piece, previous: piece + previous,
        leave=leave,
    )
    propagate(network.parts, images, rules)
    return found


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
