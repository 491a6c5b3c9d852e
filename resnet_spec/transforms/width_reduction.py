"""A network with fewer channels and the same topology: what a large one does in training, at a cost that can be paid."""

from __future__ import annotations

from dataclasses import fields, replace
from math import gcd
from typing import Any

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf
from resnet_spec.network.shape_inference import replace_operations
from resnet_spec.ops import Op, ShapeError

FACTORS = (16, 8, 4, 2)
FEWEST = 4
"""Channels that are left at the least, of a gate's vectors too: of one or two a ReLU may leave nothing, or nothing but rounding."""


def reduce_width(network: Network) -> Network:
    """The network with its channels divided by the largest of ``FACTORS`` that they allow; itself where none does.

    Its classes remain. A depthwise convolution stays one, and so does every shortcut with or without weights; group counts that no longer divide become
    the largest that do.

    >>> from resnet_spec import load
    >>> narrow = reduce_width(load("resnet50"))
    >>> narrow.parameters, list(narrow.weights())[:2]
    (224492, ['conv1.weight', 'bn1.weight'])
    """
    head = next((leaf for leaf in reversed([*network.leaves()]) if hasattr(leaf.op, "out")), None)
    if head is None:
        return network
    maps = [
        leaf.output_shape
        for leaf in network.leaves()
        if len(leaf.output_shape) == 3 and leaf.output_shape[1:] != (1, 1)
    ]
    fewest = min((channels for channels, *_ in maps), default=0)
    for factor in FACTORS:
        if fewest < factor * FEWEST and factor > 2:
            continue
        try:
            return replace_operations(network, lambda leaf, factor=factor: _divided(leaf, factor, leaf == head))  # type: ignore[misc]
        except ShapeError:
            continue
    return network


def _divided(leaf: Leaf, factor: int, head: bool) -> Op:
    told: dict[str, Any] = {field.name: getattr(leaf.op, field.name) for field in fields(leaf.op)}
    changed: dict[str, Any] = {name: round(told[name] / factor) for name in ("before", "after") if name in told}
    if "out" in told and not head:
        changed["out"] = _count(told["out"], factor)
    if len(leaf.input_shape) == 3:
        input_shape = _count(leaf.input_shape[0], factor)
        if "groups" in told:
            groups = input_shape if told["groups"] == leaf.input_shape[0] else told["groups"]
            changed["groups"] = gcd(groups, input_shape, changed.get("out", told.get("out", input_shape)))
        if told.get("size"):
            changed["size"] = gcd(told["size"], input_shape)
    return replace(leaf.op, **changed)


def _count(channels: int, factor: int) -> int:
    """So many channels divided; those that are few already stay."""
    return max(round(channels / factor), min(channels, FEWEST))
