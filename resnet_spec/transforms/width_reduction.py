"""Networks with fewer channels and the same topology, for training checks of large networks at a lower cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from math import ceil, gcd, log2
from typing import Any

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.shape_rules import check_cascade, combined_shape, joined_shape, split_shapes
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import ChannelShuffle, EvoNormS0, GroupNorm, Op, PadChannels, Shape, ShapeError

FACTORS = (16, 8, 4, 2)
"""Divisors of the number of channels, in the order in which they are tried."""
MIN_CHANNELS = 4
"""Fewest channels that are left: with one or two, a ReLU may zero all values, or all but rounding errors."""

MAX_POWER = 13
"""The power of two below which factors are tried for a network that is as narrow as can be."""

MIN_EVALUATED_CHANNELS = 2
"""Fewest channels that are left in a network that is as narrow as can be, for evaluation more than for training."""


def reduce_width(network: Network, max_channels: int | None = None) -> Network:
    """Return the network with its channels divided by the largest of ``FACTORS`` that works, or unchanged if none does.

    With ``max_channels``, the factor is instead the smallest power of two that leaves the widest operation at most that
    many channels, or the next larger one that works, or the next smaller one; classes are divided too, and no operation
    is left with fewer than MIN_EVALUATED_CHANNELS.

    Otherwise, the number of classes stays. Depthwise convolutions stay depthwise, and shortcuts keep their kind, with
    or without weights. A number of groups that does not divide the channels any more becomes the largest that does.

    >>> from resnet_spec import load
    >>> narrow = reduce_width(load("resnet50"))
    >>> narrow.parameters, list(narrow.weights())[:2]
    (224492, ['conv1.weight', 'bn1.weight'])
    """
    classifiers = frozenset(_find_classifiers(network.parts) if max_channels is None else ())
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
        widths = (getattr(leaf.op, "out", 0) for leaf in network.leaves() if leaf.path not in classifiers)
        widest = max(widths, default=0)
        power = ceil(log2(max(1, widest / max_channels)))
        factors = [2**other for other in (*range(power, MAX_POWER), *range(power - 1, 0, -1))]
    for factor in factors:
        with suppress(ShapeError):
            return infer_shapes(replace(network, parts=_divide_row(network, _Division(factor, least, classifiers))))
    return network


@dataclass(frozen=True, slots=True)
class _Division:
    """How the channels of a network are divided.

    Attributes:
        least: The fewest channels that are left to an operation that has as many.
        classifiers: The paths of the operations whose channels stay.
        matched: The channels of operations, by path, whose block's branch and shortcut would differ otherwise.
    """

    factor: int
    least: int
    classifiers: Collection[str]
    matched: dict[str, int] = field(default_factory=dict)

    def divide(self, channels: int) -> int:
        """Return the channels that are left."""
        return max(round(channels / self.factor), min(channels, self.least))


class _Unmatched(Exception):
    """The channels of an operation were added to those that must match; the network has to be divided again."""


def _divide_row(network: Network, division: _Division) -> Row:
    """Return the parts of a network with fewer channels. Raises ShapeError if they do not fit together."""
    while True:
        with suppress(_Unmatched):
            return propagate(network.parts, network.input, _rules(division))[0]


def _combine(part: Residual, branch: Shape, shortcut: Shape, division: _Division) -> Shape:
    """Return the combined shape; if channels differ, let the last operations of the shortcut or the branch match."""
    if part.combine != "concat" and branch[0] not in (1, shortcut[0]):
        sides = [(part.branch, shortcut[0])]
        if part.combine == "add":
            sides.insert(0, (part.shortcut, branch[0]))
        for row, channels in sides:
            paths = [*_find_classifiers(row)]
            if paths and channels % len(paths) == 0 and not division.matched.keys() & set(paths):
                division.matched.update(dict.fromkeys(paths, channels // len(paths)))
                raise _Unmatched
    return combined_shape(branch, shortcut, part.combine)


def _find_classifiers(row: Row) -> Iterator[str]:
    """Yield the paths of the operations that give a row its number of channels, unless they are in a block."""
    for part in reversed(row):
        if isinstance(part, Residual):
            return
        found = [part.path] if isinstance(part, Leaf) and hasattr(part.op, "out") else []
        found += [path for inner in part.rows for path in _find_classifiers(inner)]
        if found:
            yield from found
            return


def _rules(division: _Division) -> Rules[Shape]:
    """Return the rules by which shapes pass through a network while its channels are divided."""

    def leaf(part: Leaf, x: Shape) -> tuple[Part, Shape]:
        op = _reduce(part, x, division)
        return replace(part, op=op), op.output_shape(x)

    def split(part: Parallel, x: Shape) -> list[Shape]:
        return split_shapes(x, len(part.branches), _pieces(part, x[0]))

    def leave(part: Part, x: Shape, y: Shape) -> tuple[Part, Shape]:
        return (replace(part, split=_pieces(part, x[0])) if isinstance(part, Parallel) else part), y

    return Rules(
        leaf=leaf,
        combine=lambda part, branch, shortcut: _combine(part, branch, shortcut, division),
        join=lambda part, x, outputs: joined_shape(part.combine, outputs, bool(part.resize)),
        split=split,
        cascade=lambda part, index, piece, previous: check_cascade(piece, previous),
        leave=leave,
    )


def _pieces(part: Parallel, channels: int) -> bool | tuple[int, ...]:
    """Return how parallel branches split fewer channels: in the same proportions, as nearly as whole numbers allow.

    Raises ShapeError if a piece would have no channel.
    """
    if not isinstance(part.split, tuple):
        return part.split
    total = sum(part.split)
    ends = [round(end * channels / total) for end in accumulate(part.split)]
    pieces = tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
    if 0 in pieces:
        raise ShapeError(f"{channels} channels are too few for the pieces {part.split}")
    return pieces


def _reduce(leaf: Leaf, input_shape: Shape, division: _Division) -> Op:
    arguments: dict[str, Any] = {field.name: getattr(leaf.op, field.name) for field in fields(leaf.op)}
    changed: dict[str, Any] = {}
    if isinstance(leaf.op, PadChannels):
        changed = {name: round(arguments[name] / division.factor) for name in ("before", "after")}
    if "out" in arguments and leaf.path not in division.classifiers:
        changed["out"] = division.matched.get(leaf.path, division.divide(arguments["out"]))
    if len(leaf.input_shape) == 3 and not isinstance(leaf.op, ChannelShuffle):
        if "groups" in arguments:
            groups = input_shape[0] if arguments["groups"] == leaf.input_shape[0] else arguments["groups"]
            changed["groups"] = gcd(groups, input_shape[0], changed.get("out", arguments.get("out", input_shape[0])))
        if isinstance(leaf.op, GroupNorm | EvoNormS0) and leaf.op.size:
            changed["size"] = gcd(leaf.op.size, input_shape[0])
    return replace(leaf.op, **changed)
