"""Networks with fewer channels and the same topology, for training checks of large networks at a lower cost."""

from __future__ import annotations

from dataclasses import fields, replace
from math import gcd
from typing import Any

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf
from resnet_spec.network.shape_inference import replace_operations
from resnet_spec.ops import Op, ShapeError

FACTORS = (16, 8, 4, 2)
"""Divisors of the number of channels, in the order in which they are tried."""
MIN_CHANNELS = 4
"""Fewest channels that are left: with one or two, a ReLU may zero all values, or all but rounding errors."""


def reduce_width(network: Network) -> Network:
    """Return the network with its channels divided by the largest of ``FACTORS`` that works, or unchanged if none does.

    The number of classes stays. Depthwise convolutions stay depthwise, and shortcuts keep their kind, with or without
    weights. A number of groups that does not divide the channels any more becomes the largest that does.

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
    min_channels = min((channels for channels, *_ in maps), default=0)
    for factor in FACTORS:
        if min_channels < factor * MIN_CHANNELS and factor > 2:
            continue
        try:
            return replace_operations(network, lambda leaf, factor=factor: _reduce(leaf, factor, leaf == head))  # type: ignore[misc]
        except ShapeError:
            continue
    return network


def _reduce(leaf: Leaf, factor: int, is_head: bool) -> Op:
    arguments: dict[str, Any] = {field.name: getattr(leaf.op, field.name) for field in fields(leaf.op)}
    changed: dict[str, Any] = {
        name: round(arguments[name] / factor) for name in ("before", "after") if name in arguments
    }
    if "out" in arguments and not is_head:
        changed["out"] = _divide(arguments["out"], factor)
    if len(leaf.input_shape) == 3:
        input_shape = _divide(leaf.input_shape[0], factor)
        if "groups" in arguments:
            groups = input_shape if arguments["groups"] == leaf.input_shape[0] else arguments["groups"]
            changed["groups"] = gcd(groups, input_shape, changed.get("out", arguments.get("out", input_shape)))
        if arguments.get("size"):
            changed["size"] = gcd(arguments["size"], input_shape)
    return replace(leaf.op, **changed)


def _divide(channels: int, factor: int) -> int:
    """Divide a number of channels, but leave at least MIN_CHANNELS if there are as many."""
    return max(round(channels / factor), min(channels, MIN_CHANNELS))
