"""Branches side by side: the piece that each is given, the shape that they give together, and what is told where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.diagnostics.problems import Note, Problems
from resnet_spec.expansion.context import Context, Expansion
from resnet_spec.language.spec import Branches
from resnet_spec.network.shape_inference import check_cascade, joined_shape, split_shape
from resnet_spec.ops import Shape, ShapeError


def branch_input_shape(
    context: Context, path: str, fork: Branches, input_shape: Shape | None, split: bool
) -> Shape | None:
    """What each branch is given; None after a problem."""
    if input_shape is None or not split:
        return input_shape
    try:
        return split_shape(input_shape, len(fork.branches))
    except ShapeError as error:
        context.reporter.report("RS401", f"{error}, in {path}", fork.at, error.help, others=[])
        return context.lose_shape()


def join_branches(
    context: Context, path: str, fork: Branches, piece: Shape, rows: Sequence[Expansion], cascade: bool
) -> Shape | None:
    """What the branches give together; None after a problem."""
    output_shape = [shape for _, shape in rows if shape is not None]
    if len(output_shape) < len(rows):
        return context.lose_shape()
    try:
        if cascade:
            for (parts, _), before in zip(rows[1:], output_shape, strict=False):
                if parts:
                    check_cascade(piece, before)
        return joined_shape(fork.combine, output_shape)
    except ShapeError as error:
        to = _small(context, fork, output_shape)
        notes = [
            Note(f"this branch gives {shape}", group.at)
            for group, shape in zip(fork.branches, output_shape, strict=True)
        ]
        if to is None or not context.spatial_size_unknown:
            context.reporter.report("RS402", f"{error}, in {path}", fork.at, error.help, notes, others=[], to=to)
        return output_shape[0]


def _small(context: Context, fork: Branches, output_shape: Sequence[Shape]) -> Problems | None:
    """Where a problem goes that is of height and width alone, so that another image may not have it."""
    channels = {shape[:1] if len(shape) == 3 else shape for shape in output_shape}
    maps = all(len(shape) == 3 for shape in output_shape)
    return context.size_problems if maps and (fork.combine == "concat" or len(channels) == 1) else None
