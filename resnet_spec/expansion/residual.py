"""Combine a branch and a shortcut, and report shapes that do not match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.diagnostics.problems import Note
from resnet_spec.expansion.context import Context
from resnet_spec.expansion.scopes import Invocation
from resnet_spec.language.spec import Block
from resnet_spec.network.parts import Leaf, Part, Residual, Row
from resnet_spec.network.shape_rules import combined_shape
from resnet_spec.network.traversal import walk
from resnet_spec.ops import Shape, ShapeError, map_stride

Side = tuple[Sequence[Part], Shape | None]
"""The parts of a branch or a shortcut, and the shape after them."""


def combine_sides(
    context: Context, path: str, block: Block, branch: Side, shortcut: Side, use: Invocation
) -> Shape | None:
    """Return the shape of a branch and a shortcut combined; the shape of one side if that of the other is unknown."""
    (_, branch_shape), (shortcut_parts, shortcut_shape) = branch, shortcut
    if branch_shape is None or shortcut_shape is None:
        context.lose_shape()
        return branch_shape or shortcut_shape
    try:
        return combined_shape(branch_shape, shortcut_shape, block.combine)
    except ShapeError:
        pass
    is_size_only = len(branch_shape) == len(shortcut_shape) == 3 and branch_shape[0] == shortcut_shape[0]
    if is_size_only and context.spatial_size_unknown:
        return branch_shape
    is_dropped = is_size_only and (use.project or block.project) == "drop"
    kind = "shortcut" if shortcut_parts else "identity shortcut"
    verb = "multiplied" if block.combine == "multiply" else "added"
    shapes = _describe_shape(branch_shape, context), _describe_shape(shortcut_shape, context)
    message = f"the branch of {path} has output {shapes[0]}, but the {kind} has {shapes[1]}; they can't be {verb}"
    notes = [
        *_note("the branch gets its shape here", branch, is_size_only),
        *_note("the shortcut gets its shape here", shortcut, is_size_only),
    ]
    to = context.size_problems if is_size_only else None
    context.reporter.report(
        "RS402", message, use.span, _help(block, bool(shortcut_parts), is_dropped), notes, others=[], to=to
    )
    return branch_shape


def lacks_padding(branch: Sequence[Part], branch_shape: Shape | None, shortcut_shape: Shape | None) -> bool:
    """Return whether a branch of stride 1 keeps the channels and cuts a few rows off: a padding was forgotten."""
    if branch_shape is None or shortcut_shape is None or not len(branch_shape) == len(shortcut_shape) == 3:
        return False
    keeps_channels = branch_shape[0] == shortcut_shape[0]
    leaves = (part for part in walk(tuple(branch)) if isinstance(part, Leaf))
    return keeps_channels and not any(map_stride(leaf.op) > 1 for leaf in leaves)


def _help(block: Block, projected: bool, is_dropped: bool) -> str:
    if is_dropped:
        return (
            "pad the branch, as by padding: half; project: drop leaves out a shortcut that channels or strides change"
        )
    if projected:
        return "both outputs must have the same channels, height and width"
    if "shortcut" in block.sections:
        return "the block's shortcut layers are not used here; the key project sets when they are"
    return "add a shortcut to the block that changes the shape in the same way"


def _note(message: str, side: Side, is_size_only: bool) -> list[Note]:
    """Return a note on the last layer that changes a side's channels or, if ``is_size_only``, its height or width."""
    parts, _ = side
    leaves = list(_leaves_on_the_way(tuple(parts)))
    axes = slice(1, None) if is_size_only else slice(0, 1)
    changing = [leaf for leaf in leaves if leaf.input_shape[axes] != leaf.output_shape[axes]]
    last = (changing or leaves)[-1:]
    return [Note(f"{message}, in {leaf.path}", leaf.span) for leaf in last if leaf.span]


def _leaves_on_the_way(row: Row) -> Iterator[Leaf]:
    """Yield the operations that the shape passes through, which those of a gate's branch are not."""
    for part in row:
        if isinstance(part, Leaf):
            yield part
        is_gate = isinstance(part, Residual) and part.combine == "multiply"
        for index, inner in enumerate(part.rows):
            if not (is_gate and index == 1):
                yield from _leaves_on_the_way(inner)


def _describe_shape(shape: Shape, context: Context) -> str:
    return f"{shape[0]} channels" if context.spatial_size_unknown else str(shape)
