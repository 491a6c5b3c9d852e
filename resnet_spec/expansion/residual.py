"""A branch and a shortcut put together, and what is told where their shapes do not go together."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.diagnostics.problems import Note
from resnet_spec.expansion.context import Context
from resnet_spec.expansion.scopes import Invocation
from resnet_spec.language.spec import Block
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.shape_inference import combined_shape
from resnet_spec.network.traversal import walk as leaves_of
from resnet_spec.ops import Shape, ShapeError

Side = tuple[Sequence[Part], Shape | None]


def combine_sides(
    context: Context, path: str, block: Block, branch: Side, shortcut: Side, use: Invocation
) -> Shape | None:
    """The shape of a branch and a shortcut combined; of one alone where a problem keeps the other from being known."""
    (_, one), (parts, other) = branch, shortcut
    if one is None or other is None:
        context.lose_shape()
        return one or other
    try:
        return combined_shape(one, other, block.combine)
    except ShapeError:
        pass
    small = len(one) == len(other) == 3 and one[0] == other[0]
    if small and context.spatial_size_unknown:
        return one
    shortcut_is = "the shortcut gives" if parts else "x itself is"
    does = {"add": "adds", "multiply": "multiplies by", "none": "adds"}[block.combine]
    message = f"the branch of {path} gives {_size(one, context)}, but {shortcut_is} {_size(other, context)}, to which the block {does} it"
    notes = [
        *_note("the branch gets its shape here", branch, small),
        *_note("the shortcut gets its shape here", shortcut, small),
    ]
    context.reporter.report(
        "RS402",
        message,
        use.at,
        _help(block, bool(parts)),
        notes,
        others=[],
        to=context.size_problems if small else None,
    )
    return one


def _help(block: Block, projected: bool) -> str:
    if projected:
        return "both have to give the same channels, height and width"
    if "shortcut" in block.sections:
        return "the block's shortcut is not used here: project says when it is"
    return "give the block a shortcut that changes the shape alike"


def _note(message: str, side: Side, small: bool) -> list[Note]:
    """The layer that gave a side its shape: the last that changed its channels, or its height and width."""
    parts, _ = side
    leaves = [part for part in leaves_of(tuple(parts)) if isinstance(part, Leaf)]
    changed = [
        leaf
        for leaf in leaves
        if (leaf.input_shape[1:] != leaf.output_shape[1:] if small else leaf.input_shape[:1] != leaf.output_shape[:1])
    ]
    last = (changed or leaves)[-1:]
    return [Note(f"{message}, in {leaf.path}", leaf.at) for leaf in last if leaf.at]


def _size(shape: Shape, context: Context) -> str:
    return f"{shape[0]} channels" if context.spatial_size_unknown else str(shape)
