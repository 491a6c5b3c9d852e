"""Infer the shapes of parallel branches, and report branches that can't be split or joined."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.diagnostics.problems import Note, Problems, Span
from resnet_spec.expansion.context import Context, Expansion
from resnet_spec.language.spec import Branches, Join
from resnet_spec.network.shape_rules import check_cascade, joined_shape, split_shapes
from resnet_spec.ops import Shape, ShapeError


def branch_input_shapes(
    context: Context, path: str, written: Branches, input_shape: Shape | None, split: bool | tuple[int, ...]
) -> Sequence[Shape | None]:
    """Return the input shape of each branch; None after a problem."""
    count = len(written.branches)
    if input_shape is None:
        return [None] * count
    try:
        return split_shapes(input_shape, count, split)
    except ShapeError as error:
        span = written.span if written.split is None else written.split.span
        context.reporter.report("RS401", f"{error}, in {path}", span, error.help, others=[])
        return [context.lose_shape()] * count


def check_cascades(
    context: Context, path: str, written: Branches, inputs: Sequence[Shape | None], rows: Sequence[Expansion]
) -> None:
    """Report a branch whose output can't be added to the input of the next one, if there is one."""
    outputs = [shape for _, shape in rows]
    for piece, (parts, _), previous in zip(inputs[1:], rows[1:], outputs, strict=False):
        if parts and piece is not None and previous is not None:
            try:
                check_cascade(piece, previous)
            except ShapeError as error:
                _report(context, path, error, written.span, [group.span for group in written.branches], outputs, None)
                return


def join_branches(
    context: Context,
    path: str,
    combine: Join,
    span: Span,
    branch_spans: Sequence[Span],
    rows: Sequence[Expansion],
    resizes: bool = False,
) -> Shape | None:
    """Return the shape of the branches joined, or None after a problem.

    Args:
        span: The place of the part, and ``branch_spans`` those of its branches.
        rows: The expanded branches.
        resizes: Whether maps are resized to the first branch's.
    """
    output_shapes = [shape for _, shape in rows if shape is not None]
    if len(output_shapes) < len(rows):
        return context.lose_shape()
    try:
        return joined_shape(combine, output_shapes, resizes)
    except ShapeError as error:
        to = _size_problems(context, combine, output_shapes)
        if to is None or not context.spatial_size_unknown:
            _report(context, path, error, span, branch_spans, output_shapes, to)
        return output_shapes[0]


def _report(
    context: Context,
    path: str,
    error: ShapeError,
    span: Span,
    branch_spans: Sequence[Span],
    outputs: Sequence[Shape | None],
    to: Problems | None,
) -> None:
    notes = [
        Note(f"the output shape of this branch is {shape}", branch)
        for branch, shape in zip(branch_spans, outputs, strict=True)
        if branch != span
    ]
    context.reporter.report("RS402", f"{error}, in {path}", span, error.help, notes, others=[], to=to)


def _size_problems(context: Context, combine: Join, output_shapes: Sequence[Shape]) -> Problems | None:
    """Return where to report a problem if it is with heights and widths only, which another image may not have."""
    if any(len(shape) != 3 for shape in output_shapes):
        return None
    channels = {shape[0] for shape in output_shapes}
    return context.size_problems if combine == "concat" or len(channels) == 1 else None
