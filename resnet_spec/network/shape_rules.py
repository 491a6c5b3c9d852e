"""The rules by which shapes pass through parts, with those for branches that split and join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from resnet_spec.language.spec import Join
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import Shape, ShapeError


def infer_row(row: Row, input_shape: Shape) -> tuple[Row, Shape]:
    """Return a row of parts with their shapes inferred, and the shape of its output. Raises ShapeError."""
    return propagate(row, input_shape, _RULES)


def combined_shape(branch: Shape, shortcut: Shape, combine: str) -> Shape:
    """Return the shape of a residual block's branch and shortcut combined. Raises ShapeError if they can't be."""
    gate = combine == "multiply" and branch in (shortcut[:1], (shortcut[0], 1, 1))
    if branch == shortcut or gate:
        return shortcut
    raise ShapeError(f"the branch has output {branch}, but the shortcut has {shortcut}", output_shape=branch)


def split_shape(input_shape: Shape, count: int) -> Shape:
    """Return the shape of each of ``count`` equal pieces of the channels. Raises ShapeError if they do not divide."""
    if input_shape[0] % count:
        raise ShapeError(f"{input_shape[0]} channels can't be split evenly between {count} branches")
    return (input_shape[0] // count, *input_shape[1:])


def check_cascade(piece: Shape, previous: Shape) -> Shape:
    """Return the shape of a cascaded branch's input, which is its piece plus the previous branch's output.

    Raises ShapeError if those two can't be added.
    """
    if piece != previous:
        raise ShapeError(f"a cascade can't add the output {previous} of a branch to the input {piece} of the next one")
    return piece


def joined_shape(combine: Join, outputs: Sequence[Shape]) -> Shape:
    """Return the shape of parallel branches' outputs joined. Raises ShapeError if they can't be."""
    first, *rest = outputs
    match combine:
        case "concat":
            mismatch = next((shape for shape in rest if shape[1:] != first[1:]), None)
            joined = (sum(shape[0] for shape in outputs), *first[1:])
        case "add" | "mean":
            mismatch = next((shape for shape in rest if shape != first), None)
            joined = first
        case _:
            assert_never(combine)
    if mismatch is not None:
        verb = {"concat": "concatenated", "add": "added", "mean": "averaged"}[combine]
        raise ShapeError(f"branches with outputs {first} and {mismatch} can't be {verb}")
    return joined


def _leaf(leaf: Leaf, x: Shape) -> tuple[Part, Shape]:
    return leaf, leaf.op.output_shape(x)


def _combine(part: Residual, branch: Shape, shortcut: Shape) -> Shape:
    return combined_shape(branch, shortcut, part.combine)


def _split(part: Parallel, x: Shape) -> list[Shape]:
    count = len(part.branches)
    return [split_shape(x, count) if part.split else x] * count


def _leave(part: Part, x: Shape, y: Shape) -> tuple[Part, Shape]:
    return replace(part, input_shape=x, output_shape=y), y


_RULES: Rules[Shape] = Rules(
    leaf=_leaf,
    combine=_combine,
    join=lambda part, x, outputs: joined_shape(part.combine, outputs),
    split=_split,
    cascade=lambda part, index, piece, previous: check_cascade(piece, previous),
    leave=_leave,
)
