"""Infer the shape of every part of a network, also for another input or with other operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.shape_rules import infer_row
from resnet_spec.network.traversal import map_parts
from resnet_spec.ops import Op


def infer_shapes(network: Network, input: tuple[int, int, int] | None = None) -> Network:
    """Return the network with every shape inferred from its input, or from another input (channels, height, width).

    Raises ShapeError if a part cannot take the shape that reaches it.

    >>> from resnet_spec import load
    >>> infer_shapes(load("resnet18"), (3, 64, 64)) == load("resnet18", input=(3, 64, 64))
    True
    """
    image = network.input if input is None else input
    return replace(network, input=image, parts=infer_row(network.parts, image)[0])


def replace_operations(network: Network, replacement: Callable[[Leaf], Op]) -> Network:
    """Return the network with each operation replaced, and its shapes inferred again. Raises ShapeError."""

    def change(part: Part) -> Part:
        return replace(part, op=replacement(part)) if isinstance(part, Leaf) else part

    return infer_shapes(replace(network, parts=map_parts(network.parts, change)))
