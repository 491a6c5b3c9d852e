"""A tree of operations with its input or its operations replaced, and every shape worked out again."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import replace
from itertools import pairwise

from resnet_spec.network.combine import check_cascade, joined_shape, split_shape
from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual, combined_shape
from resnet_spec.ops import Op, Shape


def infer_shapes(network: Network, input: tuple[int, int, int] | None = None) -> Network:
    """The network with every shape worked out from its input, or from another. Raises Misfit where one can't be.

    >>> from resnet_spec import load
    >>> infer_shapes(load("resnet18"), (3, 64, 64)) == load("resnet18", input=(3, 64, 64))
    True
    """
    given = network.input if input is None else input
    return replace(network, input=given, parts=_row(network.parts, given)[0])


def replace_operations(network: Network, op: Callable[[Leaf], Op]) -> Network:
    """The network with each operation replaced by what a function makes of its leaf. Raises Misfit where one does not fit."""
    return infer_shapes(replace(network, parts=tuple(_swapped(part, op) for part in network.parts)))


def _swapped(part: Part, op: Callable[[Leaf], Op]) -> Part:
    def each(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(_swapped(inner, op) for inner in parts)

    match part:
        case Leaf():
            return replace(part, op=op(part))
        case Chain():
            return replace(part, parts=each(part.parts))
        case Residual():
            outer = replace(part, before=each(part.before), branch=each(part.branch))
            return replace(outer, shortcut=each(part.shortcut), after=each(part.after))
        case Parallel():
            return replace(part, branches=tuple(each(branch) for branch in part.branches))


def _row(parts: Several[Part], given: Shape) -> tuple[tuple[Part, ...], Shape]:
    done = []
    for part in parts:
        done.append(_part(part, given))
        given = done[-1].gives
    return tuple(done), given


def _part(part: Part, given: Shape) -> Part:
    match part:
        case Leaf():
            return replace(part, given=given, gives=part.op.gives(given))
        case Chain():
            parts, gives = _row(part.parts, given)
            return replace(part, parts=parts, given=given, gives=gives)
        case Residual():
            before, read = _row(part.before, given)
            branch, shape = _row(part.branch, read)
            shortcut, other = _row(part.shortcut, read if part.reads == "before" else given)
            after, gives = _row(part.after, combined_shape(shape, other, part.combine))
            changed = replace(part, before=before, branch=branch, shortcut=shortcut, after=after)
            return replace(changed, given=given, gives=gives)
        case Parallel():
            return _parallel(part, given)


def _parallel(part: Parallel, given: Shape) -> Parallel:
    piece = split_shape(given, len(part.branches)) if part.split else given
    rows = [_row(branch, piece) for branch in part.branches]
    for (_, before), (branch, _) in pairwise(rows):
        if part.cascade and branch:
            check_cascade(piece, before)
    branches, gives = tuple(row for row, _ in rows), joined_shape(part.combine, [shape for _, shape in rows])
    return replace(part, branches=branches, given=given, gives=gives)
