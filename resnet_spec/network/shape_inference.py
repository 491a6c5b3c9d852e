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
    input_shape = network.input if input is None else input
    return replace(network, input=input_shape, parts=_row(network.parts, input_shape)[0])


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


def _row(parts: Several[Part], input_shape: Shape) -> tuple[tuple[Part, ...], Shape]:
    done = []
    for part in parts:
        done.append(_part(part, input_shape))
        input_shape = done[-1].output_shape
    return tuple(done), input_shape


def _part(part: Part, input_shape: Shape) -> Part:
    match part:
        case Leaf():
            return replace(part, input_shape=input_shape, output_shape=part.op.output_shape(input_shape))
        case Chain():
            parts, output_shape = _row(part.parts, input_shape)
            return replace(part, parts=parts, input_shape=input_shape, output_shape=output_shape)
        case Residual():
            before, read = _row(part.before, input_shape)
            branch, shape = _row(part.branch, read)
            shortcut, other = _row(part.shortcut, read if part.reads == "before" else input_shape)
            after, output_shape = _row(part.after, combined_shape(shape, other, part.combine))
            changed = replace(part, before=before, branch=branch, shortcut=shortcut, after=after)
            return replace(changed, input_shape=input_shape, output_shape=output_shape)
        case Parallel():
            return _parallel(part, input_shape)


def _parallel(part: Parallel, input_shape: Shape) -> Parallel:
    piece = split_shape(input_shape, len(part.branches)) if part.split else input_shape
    rows = [_row(branch, piece) for branch in part.branches]
    for (_, before), (branch, _) in pairwise(rows):
        if part.cascade and branch:
            check_cascade(piece, before)
    branches, output_shape = tuple(row for row, _ in rows), joined_shape(part.combine, [shape for _, shape in rows])
    return replace(part, branches=branches, input_shape=input_shape, output_shape=output_shape)
