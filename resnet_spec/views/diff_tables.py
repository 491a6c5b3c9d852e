"""A difference as tables in a terminal, and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from resnet_spec.ops import Shape
from resnet_spec.views.network_diff import Change, ChangeKind, StageDiff
from resnet_spec.views.table import format_shape

SIGNS: dict[ChangeKind, tuple[str, str]] = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "renamed": ("=", "blue"),
}
"""What stands before each kind of change, and its colour."""


def render_changes(changes: Sequence[Change]) -> Grid:
    """The changes, one a line."""
    grid = Grid(box=SIMPLE_HEAD, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for change in changes:
        sign, colour = SIGNS[change.kind]
        times = f" ({change.times} times)" if change.times > 1 else ""
        arrow = " -> " if change.before and change.after else ""
        about = f"{change.before}{arrow}{change.after}{times}"
        grid.add_row(Text(sign, colour), Text(change.path), Text(about))
    return grid


def render_stages(stages: Sequence[StageDiff], one: str, other: str) -> Grid:
    """What each stage costs in both, and how much more or less; a checkpoint has parameters only."""
    grid = Grid(box=SIMPLE_HEAD, title=f"{one} -> {other}, by stage", title_justify="left", caption_justify="left")
    run = any(number is not None for stage in stages for number in stage.macs)
    grid.add_column("stage", no_wrap=True)
    for heading in ("parameters", "", "change", *(("MACs", "", "change") if run else ())):
        grid.add_column(heading, justify="right", no_wrap=True)
    if run:
        grid.add_column("gives", no_wrap=True)
        grid.caption = "MACs: multiplications with addition in convolutions and matrix products; FLOPs = 2 x MACs"
    for stage in stages:
        macs = (*_format_pair(stage.macs), _format_shapes(stage.output_shape)) if run else ()
        grid.add_row(stage.name, *_format_pair(stage.parameters), *macs)
    grid.add_section()
    parameters, macs_ = (_total(stages, cost) for cost in ("parameters", "macs"))
    grid.add_row("total", *_format_pair(parameters), *(_format_pair(macs_) if run else ()), style="bold")
    return grid


def _total(stages: Sequence[StageDiff], cost: str) -> tuple[int, int]:
    one, other = (sum(getattr(stage, cost)[side] or 0 for stage in stages) for side in (0, 1))
    return one, other


def to_data(changes: Sequence[Change], stages: Sequence[StageDiff]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {"changes": [asdict(change) for change in changes], "stages": [asdict(stage) for stage in stages]}


def _format_pair(numbers: tuple[int | None, int | None]) -> tuple[str, str, str]:
    one, other = numbers
    change = (other or 0) - (one or 0)
    return _format_optional(one), _format_optional(other), f"{change:+,}" if change else ""


def _format_optional(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _format_shapes(shapes: tuple[Shape | None, Shape | None]) -> str:
    known = list(dict.fromkeys(format_shape(one) for one in shapes if one))
    return " -> ".join(known)
