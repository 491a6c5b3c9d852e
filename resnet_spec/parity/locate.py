"""Find the parts that cause a difference, by running each part alone on the reference's input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TypeAlias, assert_never

import numpy as np

from resnet_spec.backend import OUTPUT
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.parity.compare import relative_error
from resnet_spec.weights.canonical import Array

RunParts: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Runs parts, each on its own input: takes inputs by path, returns outputs by path."""


def compute_part_inputs(network: Network, images: Array, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the input of every part by path, from the recorded outputs of all parts. The images stand under ""."""
    inputs = {OUTPUT: images}

    def keep(part: Part, x: Array) -> None:
        inputs[part.path] = x

    visit_part_inputs(network, images, outputs, keep)
    return inputs


def visit_part_inputs(
    network: Network, images: Array, outputs: Mapping[str, Array], visit: Callable[[Part, Array], None]
) -> None:
    """Call ``visit`` with every part and its input, from the recorded outputs of all parts."""

    def leave(part: Part, x: Array, y: Array) -> tuple[Part, Array]:
        visit(part, x)
        return part, outputs[part.path]  # the recorded output, whatever the rules below return

    rules: Rules[Array] = Rules(
        leaf=lambda leaf, x: (leaf, x),
        combine=combine_outputs,
        join=lambda part, x, branches: x,
        split=split_input,
        cascade=lambda part, index, piece, previous: piece + previous,
        leave=leave,
    )
    propagate(network.parts, images, rules)


def combine_outputs(part: Residual, branch: Array, shortcut: Array) -> Array:
    """Combine the outputs of a residual block's branch and shortcut."""
    match part.combine:
        case "add":
            return branch + shortcut
        case "multiply":
            return shortcut * _add_axes(branch, shortcut.ndim)
        case "concat":
            return np.concatenate([shortcut, branch], axis=1)
        case _:
            assert_never(part.combine)


def _add_axes(x: Array, ndim: int) -> Array:
    return x.reshape(*x.shape, *[1] * (ndim - x.ndim))


def join_outputs(part: Parallel, outputs: Sequence[Array]) -> Array:
    """Join the outputs of parallel branches."""
    if part.resize:
        outputs = [_resize_like(output, outputs[0]) for output in outputs]
    match part.combine:
        case "concat":
            return np.concatenate(outputs, axis=1)
        case "add":
            return np.sum(outputs, axis=0)
        case "mean":
            return np.mean(outputs, axis=0)
        case "multiply":
            ndim = max(output.ndim for output in outputs)
            return reduce(np.multiply, (_add_axes(output, ndim) for output in outputs))
        case "subtract":
            return reduce(np.subtract, outputs)
        case _:
            assert_never(part.combine)


def _resize_like(x: Array, first: Array) -> Array:
    """Return a map with the height and width of another, of the nearest pixels."""
    for axis in range(2, x.ndim):
        size = first.shape[axis]
        x = x.take(np.arange(size) * x.shape[axis] // size, axis)
    return x


def split_input(part: Parallel, x: Array) -> list[Array]:
    """Return what each of several parallel branches reads."""
    return np.split(x, np.cumsum(part.pieces)[:-1], axis=1) if part.pieces else [x] * len(part.branches)


def find_faulty_parts(
    network: Network, inputs: Mapping[str, Array], expected: Mapping[str, Array], run_parts: RunParts, gate: float
) -> tuple[str, ...]:
    """Return the paths of the parts whose own output differs from the reference's, given the reference's input.

    If operations differ, they are returned; otherwise the innermost containers that differ, where "" is the whole
    network.
    """
    leaves = [leaf.path for leaf in network.leaves()]
    differing = _find_differing(leaves, inputs, expected, run_parts, gate)
    if differing:
        return tuple(differing)
    containers = [part.path for part in network.nodes() if not isinstance(part, Leaf)]
    differing = _find_differing([*containers, OUTPUT], inputs, expected, run_parts, gate)
    return tuple(
        path for path in differing if not any(other != path and _is_inside(other, path) for other in differing)
    )


def _find_differing(
    paths: list[str], inputs: Mapping[str, Array], expected: Mapping[str, Array], run_parts: RunParts, gate: float
) -> list[str]:
    outputs = run_parts({path: inputs[path] for path in paths})
    return [path for path in paths if not relative_error(expected[path], outputs.get(path)) <= gate]


def _is_inside(path: str, container: str) -> bool:
    return container == OUTPUT or path.startswith(f"{container}.")
