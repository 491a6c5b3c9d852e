"""A network as an object to call: the tree is walked, each operation by its definition."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, assert_never

import numpy as np

from resnet_spec.network.network import Chain, Network, Parallel, Part, Residual
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy.layers import layer


class ResNet:
    """A network with its weights. (batch, channels, height, width) -> what the spec's head gives.

    ``training`` chooses the batch's own statistics and random dropping, as in the frameworks; calling it then updates the running
    statistics in ``weights``.
    """

    resnet_spec_backend: ClassVar[str] = "numpy"

    def __init__(self, network: Network, weights: dict[str, Array]) -> None:
        self.network = network
        self.weights = weights
        self.training = False
        self.random = np.random.default_rng(0)

    def __call__(
        self, images: Array, watch: Collection[str] = (), seen: dict[str, Array] | None = None, part: str = ""
    ) -> Any:
        seen = {} if seen is None else seen
        parts = self.network.parts if part == "" else (self.network.part(part),)
        dtype = next(iter(self.weights.values())).dtype if self.weights else np.float64
        outputs = () if part else self.network.outputs
        last = self._through(parts, images.astype(dtype, copy=False), frozenset({*watch, *outputs}), seen)
        return tuple(seen[path] for path in outputs) if outputs else last

    def _through(self, parts: tuple[Part, ...], x: Array, watch: frozenset[str], seen: dict[str, Array]) -> Array:
        for part in parts:
            x = self._part(part, x, watch, seen)
            if part.path in watch:
                seen[part.path] = x
        return x

    def _part(self, part: Part, x: Array, watch: frozenset[str], seen: dict[str, Array]) -> Array:
        match part:
            case Chain():
                return self._through(part.parts, x, watch, seen)
            case Parallel():
                return self._parallel(part, x, watch, seen)
            case Residual():
                y = self._through(part.before, x, watch, seen)
                branch = self._through(part.branch, y, watch, seen)
                shortcut = self._through(part.shortcut, y if part.reads == "before" else x, watch, seen)
                match part.combine:
                    case "add":
                        both = branch + shortcut
                    case "multiply":
                        both = shortcut * branch.reshape(*branch.shape, *[1] * (shortcut.ndim - branch.ndim))
                    case _:
                        assert_never(part.combine)
                return self._through(part.after, both, watch, seen)
            case leaf:
                names = {weight.name: f"{leaf.path}.{weight.name}" for weight in leaf.op.weights(leaf.input_shape)}
                own = {name: self.weights[full] for name, full in names.items()}
                y, statistics = layer(leaf, own, x, self.random if self.training else None)
                self.weights |= {names[name]: value for name, value in statistics.items()}
                return y

    def _parallel(self, part: Parallel, x: Array, watch: frozenset[str], seen: dict[str, Array]) -> Array:
        given = np.split(x, len(part.branches), axis=1) if part.split else [x] * len(part.branches)
        gives: list[Array] = []
        for branch, piece in zip(part.branches, given, strict=True):
            cascaded = part.cascade and branch and gives
            gives.append(self._through(branch, piece + gives[-1] if cascaded else piece, watch, seen))
        match part.combine:
            case "concat":
                return np.concatenate(gives, axis=1)
            case "add":
                return sum(gives[1:], gives[0])
            case "mean":
                return sum(gives[1:], gives[0]) / len(gives)
            case _:
                assert_never(part.combine)

    def __repr__(self) -> str:
        layers = "\n".join(f"  ({leaf.path}): {leaf.op}" for leaf in self.network.leaves())
        return f"ResNet(\n{layers}\n)"
