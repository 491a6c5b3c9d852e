"""Infer the shapes of parallel branches, and report branches that can't be split or joined."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.diagnostics.problems import Note, Problems
from resnet_spec.expansion.context import Context, Expansion
from resnet_spec.language.spec import Branches
from resnet_spec.network.shape_rules import check_cascade, joined_shape, split_shape
from resnet_spec.ops import Shape, ShapeError


def branch_input_shape(
    context: Context, path: str, written: Branches, input_shape: Shape | None, split: bool
) -> Shape | None:
    """Return the input shape of each branch, or None after a problem."""
    if input_shape is None or not split:
        return input_shape
    try:
        return split_shape(input_shape, len(written.branches))
    except ShapeError as error:
        context.reporter.report("RS401", f"{error}, in {path}", written.span, error.help, others=[])
        return context.lose_shape()


def join_branches(
    context: Context, path: str, written: Branches, piece: Shape, rows: Sequence[Expansion], cascade: bool
) -> Shape | None:
    """Return the shape of the branches joined, or None after a problem.

    ``piece`` is the input shape of each branch, and ``rows`` are the expanded branches.
    """
    output_shapes = [shape for _, shape in rows if shape is not None]
    if len(output_shapes) < len(rows):
        return context.lose_shape()
    try:
        if cascade:
            for (parts, _), previous in zip(rows[1:], output_shapes, strict=False):
                if parts:
                    check_cascade(piece, previous)
        return joined_shape(written.combine, output_shapes)
    except ShapeError as error:
        to = _size_problems(context, written, output_shapes)
        notes = [
            Note(f"the output shape of this branch is {shape}", group.span)
            for group, shape in zip(written.branches, output_shapes, strict=True)
        ]
        if to is None or not context.spatial_size_unknown:
            context.reporter.report("RS402", f"{error}, in {path}", written.span, error.help, notes, others=[], to=to)
        return output_shapes[0]


def _size_problems(context: Context, written: Branches, output_shapes: Sequence[Shape]) -> Problems | None:
    """Return where to report a problem if it is with heights and widths only, which another image may not have."""
    if any(len(shape) != 3 for shape in output_shapes):
        return None
    channels = {shape[0] for shape in output_shapes}
    return context.size_problems if written.combine == "concat" or len(channels) == 1 else None
