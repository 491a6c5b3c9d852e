"""Branches side by side: the piece that each is given, the shape that they give together, and what is told where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.diagnostics.problems import Note, Problems
from resnet_spec.expansion.context import Run, Walk
from resnet_spec.language.spec import Fork
from resnet_spec.network.combine import added, joined, pieces
from resnet_spec.ops import Misfit, Shape


def piece_of(walk: Walk, path: str, fork: Fork, given: Shape | None, split: bool) -> Shape | None:
    """What each branch is given; None after a problem."""
    if given is None or not split:
        return given
    try:
        return pieces(given, len(fork.branches))
    except Misfit as error:
        walk.faults.note("RS401", f"{error}, in {path}", fork.at, error.help, others=[])
        return walk.unknown()


def met(walk: Walk, path: str, fork: Fork, piece: Shape, rows: Sequence[Run], cascade: bool) -> Shape | None:
    """What the branches give together; None after a problem."""
    gives = [shape for _, shape in rows if shape is not None]
    if len(gives) < len(rows):
        return walk.unknown()
    try:
        if cascade:
            for (parts, _), before in zip(rows[1:], gives, strict=False):
                if parts:
                    added(piece, before)
        return joined(fork.combine, gives)
    except Misfit as error:
        to = _small(walk, fork, gives)
        notes = [
            Note(f"this branch gives {shape}", group.at) for group, shape in zip(fork.branches, gives, strict=True)
        ]
        if to is None or not walk.vague:
            walk.faults.note("RS402", f"{error}, in {path}", fork.at, error.help, notes, others=[], to=to)
        return gives[0]


def _small(walk: Walk, fork: Fork, gives: Sequence[Shape]) -> Problems | None:
    """Where a problem goes that is of height and width alone, so that another image may not have it."""
    channels = {shape[:1] if len(shape) == 3 else shape for shape in gives}
    maps = all(len(shape) == 3 for shape in gives)
    return walk.small if maps and (fork.combine == "concat" or len(channels) == 1) else None
