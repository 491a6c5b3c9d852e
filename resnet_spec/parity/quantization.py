"""Measure what each part of a quantised network loses against float64, and find the part that loses most."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.backend import REFERENCE, load_backend
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import op_name
from resnet_spec.weights.canonical import Array

RunParts: TypeAlias = Callable[[Array, Collection[str]], Mapping[str, Array]]
"""Runs the quantised network on images; returns the outputs of the operations at some paths."""

MAX_IMAGES = 8
"""The images on which losses are measured: the reference takes seconds for each."""


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """What an operation's output loses.

    Attributes:
        error: The root mean square of the difference from float64, over that of the output in float64.
        added: How much larger the error is than that of the operation's input.
    """

    path: str
    operation: str
    error: float
    added: float


@dataclass(frozen=True, slots=True)
class QuantizationLoss:
    """What the operations of a network lose, in the order in which they run.

    Attributes:
        images: The number of images.
        agreeing: For how many of them the largest output is that of float64.
    """

    nodes: tuple[NodeLoss, ...]
    images: int
    agreeing: int

    @property
    def worst(self) -> NodeLoss:
        """The first operation that adds the largest error."""
        return max(self.nodes, key=lambda node: node.added)

    def describe(self) -> str:
        """Return a sentence that names the operation that loses most, and the loss of the output."""
        worst = self.worst
        return (
            f"{worst.path} ({worst.operation}) loses most: its output is off by {worst.error:.2%}, {worst.added:.2%} "
            f"more than its input; the network's by {self.nodes[-1].error:.2%}, and its largest output is that of "
            f"float64 for {self.agreeing} of {self.images} images"
        )

    def to_table(self) -> Table:
        """Return a table with a row for each operation."""
        table = Table(box=SIMPLE_HEAD)
        for heading in ("operation", "kind"):
            table.add_column(heading)
        for heading in ("error", "added"):
            table.add_column(heading, justify="right", no_wrap=True)
        for node in self.nodes:
            table.add_row(node.path, node.operation, f"{node.error:.3%}", f"{node.added:+.3%}")
        return table

    def to_json(self) -> dict[str, Any]:
        """Return the losses as JSON values."""
        nodes = [asdict(node) for node in self.nodes]
        return {"nodes": nodes, "worst": self.worst.path, "images": self.images, "agreeing": self.agreeing}


def measure_loss(
    network: Network, weights: Mapping[str, Array], images: Sequence[Array], run_quantized: RunParts
) -> QuantizationLoss:
    """Measure the loss of each operation on at most MAX_IMAGES images, each (1, channels, height, width)."""
    backend = load_backend(REFERENCE)
    reference = backend.build(network, {name: array.astype(np.float64) for name, array in weights.items()}, "float64")
    paths = [leaf.path for leaf in network.leaves()]
    last = paths[-1]
    errors, powers = dict.fromkeys(paths, 0.0), dict.fromkeys(paths, 0.0)
    chosen, agreeing = images[:MAX_IMAGES], 0
    for image in chosen:
        expected = backend.run(reference, image.astype(np.float64), paths)
        actual = run_quantized(image, paths)
        agreeing += int(expected[last].argmax() == actual[last].argmax())
        for path in paths:
            errors[path] += float(np.square(actual[path] - expected[path]).sum())
            powers[path] += float(np.square(expected[path]).sum())
    relative = {path: float(np.sqrt(errors[path] / (powers[path] or 1.0))) for path in paths}
    return QuantizationLoss(tuple(_add_losses(network, relative)), len(chosen), agreeing)


def _add_losses(network: Network, errors: Mapping[str, float]) -> list[NodeLoss]:
    """Return the loss of each operation by its error and that of its input; the larger one where inputs meet."""
    losses: list[NodeLoss] = []

    def leaf(part: Leaf, x: float) -> tuple[Part, float]:
        error = errors[part.path]
        losses.append(NodeLoss(part.path, op_name(part.op), error, error - x))
        return part, error

    rules: Rules[float] = Rules(
        leaf=leaf,
        combine=lambda part, branch, shortcut: max(branch, shortcut),
        join=lambda part, x, outputs: max(outputs),
        cascade=lambda part, index, piece, previous: max(piece, previous),
    )
    propagate(network.parts, 0.0, rules)
    return losses
