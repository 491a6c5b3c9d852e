"""The rules by which shapes pass through parts, with those for branches that split and join."""

from __future__ import annotations

import math
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
    if combine == "concat":
        if branch[1:] == shortcut[1:]:
            return shortcut[0] + branch[0], *branch[1:]
    elif branch == shortcut or (combine == "multiply" and is_gate(branch, shortcut)):
        return shortcut
    raise ShapeError(f"the branch has output {branch}, but the shortcut has {shortcut}", output_shape=branch)


def is_gate(gate: Shape, shape: Shape) -> bool:
    """Return whether a gate has one number per channel or per pixel of a map, or for all of it."""
    channels, *size = shape
    return gate == (channels,) or (len(shape) == 3 and gate in ((channels, 1, 1), (1, *size), (1, 1, 1)))


def split_shapes(input_shape: Shape, count: int, split: bool | tuple[int, ...]) -> list[Shape]:
    """Return the input shapes of ``count`` branches: those of pieces of the channels, or the whole input's.

    Raises ShapeError if the pieces do not add up to the channels.
    """
    channels, *size = input_shape
    if not split:
        return [input_shape] * count
    if isinstance(split, tuple):
        if sum(split) != channels:
            raise ShapeError(f"the pieces have {sum(split)} channels together, but the input has {channels}")
        return [(piece, *size) for piece in split]
    if channels % count:
        raise ShapeError(f"{channels} channels can't be split evenly between {count} branches")
    return [(channels // count, *size)] * count


def check_cascade(piece: Shape, previous: Shape) -> Shape:
    """Return the shape of a cascaded branch's input, which is its piece plus the previous branch's output.

    Raises ShapeError if those two can't be added.
    """
    if piece != previous:
        raise ShapeError(f"a cascade can't add the output {previous} of a branch to the input {piece} of the next one")
    return piece


def joined_shape(combine: Join, outputs: Sequence[Shape], resizes: bool = False) -> Shape:
    """Return the shape of parallel branches' outputs joined. Raises ShapeError if they can't be.

    If ``resizes``, maps of another size are resized to the first branch's.
    """
    if resizes:
        outputs = [resized_shape(shape, outputs[0]) for shape in outputs]
    first, *rest = outputs
    match combine:
        case "concat":
            mismatch = next((shape for shape in rest if shape[1:] != first[1:]), None)
            joined = (sum(shape[0] for shape in outputs), *first[1:])
        case "multiply":
            joined = max(outputs, key=lambda shape: (len(shape), math.prod(shape)))
            mismatch = next((shape for shape in outputs if shape != joined and not is_gate(shape, joined)), None)
            first = joined
        case "add" | "mean" | "subtract":
            mismatch = next((shape for shape in rest if shape != first), None)
            joined = first
        case _:
            assert_never(combine)
    if mismatch is not None:
        verbs = {"concat": "concatenated", "add": "added", "mean": "averaged", "multiply": "multiplied"}
        verb = verbs.get(combine, "subtracted")
        raise ShapeError(f"branches with outputs {first} and {mismatch} can't be {verb}")
    return joined


def resized_shape(shape: Shape, first: Shape) -> Shape:
    """Return the shape of a map resized to the height and width of another; a vector keeps its shape."""
    return (shape[0], *first[1:]) if len(shape) == len(first) == 3 else shape


def _leaf(leaf: Leaf, x: Shape) -> tuple[Part, Shape]:
    return leaf, leaf.op.output_shape(x)


def _combine(part: Residual, branch: Shape, shortcut: Shape) -> Shape:
    return combined_shape(branch, shortcut, part.combine)


def _split(part: Parallel, x: Shape) -> list[Shape]:
    return split_shapes(x, len(part.branches), part.split)


def _leave(part: Part, x: Shape, y: Shape) -> tuple[Part, Shape]:
    return replace(part, input_shape=x, output_shape=y), y


_RULES: Rules[Shape] = Rules(
    leaf=_leaf,
    combine=_combine,
    join=lambda part, x, outputs: joined_shape(part.combine, outputs, bool(part.resize)),
    split=_split,
    cascade=lambda part, index, piece, previous: check_cascade(piece, previous),
    leave=_leave,
)
