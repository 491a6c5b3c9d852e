"""Networks with fewer channels and the same topology, for training checks of large networks at a lower cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from itertools import accumulate
from math import ceil, gcd, log2
from typing import Any

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.shape_rules import check_cascade, combined_shape, joined_shape, split_shapes
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import ChannelShuffle, EvoNormS0, GroupNorm, Op, PadChannels, Shape, ShapeError

FACTORS = (16, 8, 4, 2)
"""Divisors of the number of channels, in the order in which they are tried."""
MIN_CHANNELS = 4
"""Fewest channels that are left: with one or two, a ReLU may zero all values, or all but rounding errors."""

MIN_EVALUATED_CHANNELS = 2
"""Fewest channels that are left in a network that is as narrow as can be, for evaluation more than for training."""


def reduce_width(network: Network, max_channels: int | None = None) -> Network:
    """Return the network with its channels divided by the largest of ``FACTORS`` that works, or unchanged if none does.

    With ``max_channels``, the factor is instead the smallest power of two that leaves the widest operation at most that
    many channels, or the next smaller one that works, and no operation is left with fewer than MIN_EVALUATED_CHANNELS.

    The number of classes stays. Depthwise convolutions stay depthwise, and shortcuts keep their kind, with or without
    weights. A number of groups that does not divide the channels any more becomes the largest that does.

    >>> from resnet_spec import load
    >>> narrow = reduce_width(load("resnet50"))
    >>> narrow.parameters, list(narrow.weights())[:2]
    (224492, ['conv1.weight', 'bn1.weight'])
    """
    classifiers = frozenset(_find_classifiers(network.parts))
    least = MIN_CHANNELS if max_channels is None else MIN_EVALUATED_CHANNELS
    maps = [
        leaf.output_shape
        for leaf in network.leaves()
        if len(leaf.output_shape) == 3 and leaf.output_shape[0] > 1 and leaf.output_shape[1:] != (1, 1)
    ]
    if max_channels is None:
        min_channels = min((channels for channels, *_ in maps), default=0)
        factors = [factor for factor in FACTORS if min_channels >= factor * MIN_CHANNELS or factor <= 2]
    else:
        widest = max((leaf.op.out for leaf in network.leaves() if _has_width(leaf, classifiers)), default=0)
        factors = [2**power for power in range(ceil(log2(max(1, widest / max_channels))), 0, -1)]
    for factor in factors:
        with suppress(ShapeError):
            parts, _ = propagate(network.parts, network.input, _rules(factor, least, classifiers))
            return infer_shapes(replace(network, parts=parts))
    return network


def _has_width(leaf: Leaf, classifiers: Collection[str]) -> bool:
    """Return whether an operation has a number of channels that is reduced."""
    return hasattr(leaf.op, "out") and leaf.path not in classifiers


def _find_classifiers(row: Row) -> Iterator[str]:
    """Yield the paths of the operations that give a row its number of channels, unless they are in a block."""
    for part in reversed(row):
        match part:
            case Leaf():
                found = [part.path] if hasattr(part.op, "out") else []
            case Chain():
                found = [*_find_classifiers(part.parts)]
            case Parallel():
                found = [path for branch in part.branches for path in _find_classifiers(branch)]
            case Residual():
                return
        if found:
            yield from found
            return


def _rules(factor: int, least: int, classifiers: Collection[str]) -> Rules[Shape]:
    """Return the rules by which shapes pass through a network while its channels are divided by a factor."""

    def leaf(part: Leaf, x: Shape) -> tuple[Part, Shape]:
        op = _reduce(part, x, factor, least, part.path in classifiers)
        return replace(part, op=op), op.output_shape(x)

    def split(part: Parallel, x: Shape) -> list[Shape]:
        return split_shapes(x, len(part.branches), _pieces(part, x[0]))

    def leave(part: Part, x: Shape, y: Shape) -> tuple[Part, Shape]:
        return (replace(part, split=_pieces(part, x[0])) if isinstance(part, Parallel) else part), y

    return Rules(
        leaf=leaf,
        combine=lambda part, branch, shortcut: combined_shape(branch, shortcut, part.combine),
        join=lambda part, x, outputs: joined_shape(part.combine, outputs, bool(part.resize)),
        split=split,
        cascade=lambda part, index, piece, previous: check_cascade(piece, previous),
        leave=leave,
    )


def _pieces(part: Parallel, channels: int) -> bool | tuple[int, ...]:
    """Return how parallel branches split fewer channels: in the same proportions, as nearly as whole numbers allow."""
    if not isinstance(part.split, tuple):
        return part.split
    total = sum(part.split)
    ends = [round(end * channels / total) for end in accumulate(part.split)]
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))


def _reduce(leaf: Leaf, input_shape: Shape, factor: int, least: int, is_classifier: bool) -> Op:
    arguments: dict[str, Any] = {field.name: getattr(leaf.op, field.name) for field in fields(leaf.op)}
    changed: dict[str, Any] = {}
    if isinstance(leaf.op, PadChannels):
        changed = {name: round(arguments[name] / factor) for name in ("before", "after")}
    if "out" in arguments and not is_classifier:
        changed["out"] = _divide(arguments["out"], factor, least)
    if len(leaf.input_shape) == 3 and not isinstance(leaf.op, ChannelShuffle):
        if "groups" in arguments:
            groups = input_shape[0] if arguments["groups"] == leaf.input_shape[0] else arguments["groups"]
            changed["groups"] = gcd(groups, input_shape[0], changed.get("out", arguments.get("out", input_shape[0])))
        if isinstance(leaf.op, GroupNorm | EvoNormS0) and leaf.op.size:
            changed["size"] = gcd(leaf.op.size, input_shape[0])
    return replace(leaf.op, **changed)


def _divide(channels: int, factor: int, least: int) -> int:
    """Divide a number of channels, but leave at least so many if there are as many."""
    return max(round(channels / factor), min(channels, least))
