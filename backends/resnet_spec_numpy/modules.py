"""A network as a callable object: it walks over the tree and computes each operation by its definition."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, ClassVar, assert_never

import numpy as np

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy import arithmetic
from resnet_spec_numpy.layers import run_layer


class ResNet:
    """A network with its weights: (batch, channels, height, width) -> the output of its last part.

    If ``training`` is set, norms use the statistics of the batch and dropout is active, as in the frameworks. A call
    then updates the running statistics in ``weights``. If ``is_ordered`` is set, all machines compute the same bits.
    """

    resnet_spec_backend: ClassVar[str] = "numpy"

    def __init__(self, network: Network, weights: dict[str, Array], dtype: str) -> None:
        self.network = network
        self.weights = weights
        self.dtype = np.dtype(dtype)
        self.training = False
        self.is_ordered = False
        self.random = np.random.default_rng(0)

    def __call__(
        self, images: Array, capture: Collection[str] = (), captured: dict[str, Array] | None = None, part: str = ""
    ) -> Any:
        """Run the network, or one part of it; add the outputs of the parts in ``capture`` to ``captured``, by path."""
        captured = {} if captured is None else captured
        row = self.network.parts if part == "" else (self.network.part(part),)
        outputs = () if part else self.network.outputs
        paths = frozenset({*capture, *outputs})

        def leave(part: Part, x: Array, y: Array) -> tuple[Part, Array]:
            if part.path in paths:
                captured[part.path] = y
            return part, y

        rules: Rules[Array] = Rules(
            leaf=self._run_leaf,
            combine=_combine,
            join=_join,
            split=_split,
            cascade=lambda part, index, piece, previous: piece + previous,
            leave=leave,
        )
        with arithmetic.summation(self.is_ordered):
            _, last = propagate(row, images.astype(self.dtype, copy=False), rules)
        return tuple(captured[path] for path in outputs) if outputs else last

    def _run_leaf(self, leaf: Leaf, x: Array) -> tuple[Part, Array]:
        names = {weight.name: leaf.weight_path(weight.name) for weight in leaf.op.weights(leaf.input_shape)}
        weights = {name: self.weights[full_name] for name, full_name in names.items()}
        y, statistics = run_layer(leaf, weights, x, self.random if self.training else None)
        self.weights |= {names[name]: value for name, value in statistics.items()}
        return leaf, y

    def __repr__(self) -> str:
        layers = "\n".join(f"  ({leaf.path}): {leaf.op}" for leaf in self.network.leaves())
        return f"ResNet(\n{layers}\n)"


def _combine(part: Residual, branch: Array, shortcut: Array) -> Array:
    match part.combine:
        case "add":
            return branch + shortcut
        case "multiply":
            return shortcut * _expand(branch, shortcut.ndim)
        case "concat":
            return np.concatenate([shortcut, branch], axis=1)
        case _:
            assert_never(part.combine)


def _expand(gate: Array, ndim: int) -> Array:
    """Return a gate with one number per channel in a shape that broadcasts: (batch, channels, 1, 1)."""
    return gate.reshape(*gate.shape, *[1] * (ndim - gate.ndim))


def _split(part: Parallel, x: Array) -> list[Array]:
    if not part.pieces:
        return [x] * len(part.branches)
    return np.split(x, np.cumsum(part.pieces)[:-1], axis=1)


def _resize(part: Parallel, outputs: list[Array]) -> list[Array]:
    """Return maps with the first one's height and width; each pixel is the nearest one."""
    if not part.resize:
        return outputs
    for axis in (2, 3):
        size = outputs[0].shape[axis]
        outputs = [x.take(np.arange(size) * x.shape[axis] // size, axis) if x.ndim == 4 else x for x in outputs]
    return outputs


def _join(part: Parallel, x: Array, outputs: list[Array]) -> Array:
    outputs = _resize(part, outputs)
    match part.combine:
        case "multiply":
            ndim = max(output.ndim for output in outputs)
            return math.prod((_expand(output, ndim) for output in outputs[1:]), start=_expand(outputs[0], ndim))
        case "subtract":
            return outputs[0] - sum(outputs[1:])
        case "concat":
            return np.concatenate(outputs, axis=1)
        case "add":
            return sum(outputs[1:], outputs[0])
        case "mean":
            return sum(outputs[1:], outputs[0]) / len(outputs)
        case _:
            assert_never(part.combine)
