"""Differences as tables for a terminal, and as data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from resnet_spec.diagnostics.problems import one_line
from resnet_spec.ops import Shape
from resnet_spec.views.network_diff import Change, ChangeKind, StageDiff
from resnet_spec.views.table import MACS_NOTE, format_shape

SIGNS: dict[ChangeKind, tuple[str, str]] = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "renamed": ("=", "blue"),
}
"""The sign in front of each kind of change, and its colour."""


COST_HEADINGS = {name: (f"{name}\nbefore", f"{name}\nafter", f"{name}\nchange") for name in ("parameters", "MACs")}
OPTIONAL_HEADINGS = ("gives", COST_HEADINGS["parameters"][0], COST_HEADINGS["MACs"][0], COST_HEADINGS["parameters"][1])
"""The columns of stages that are left out in a terminal that is too narrow, the first one first."""


def render_changes(changes: Sequence[Change]) -> Grid:
    """Return a table of the changes, one per line, that rich can print."""
    grid = Grid(box=SIMPLE_HEAD, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for change in changes:
        sign, colour = SIGNS[change.kind]
        times = f" ({change.times} times)" if change.times > 1 else ""
        arrow = " -> " if change.before and change.after else ""
        description = f"{change.before}{arrow}{change.after}{times}"
        grid.add_row(Text(sign, colour), Text(change.path), Text(description))
    return grid


def render_stages(stages: Sequence[StageDiff], first: str, second: str) -> Grid:
    """Return a table of the costs of each stage on both sides, and their differences, that rich can print.

    A comparison with a checkpoint has no MACs and no shapes: their columns are left out.
    """
    grid = Grid(
        box=SIMPLE_HEAD, title=one_line(f"{first} -> {second}, by stage"), title_justify="left", caption_justify="left"
    )
    has_macs = any(number is not None for stage in stages for number in stage.macs)
    grid.add_column("stage", no_wrap=True)
    for heading in (*COST_HEADINGS["parameters"], *(COST_HEADINGS["MACs"] if has_macs else ())):
        grid.add_column(heading, justify="right", no_wrap=True)
    if has_macs:
        grid.add_column("gives", no_wrap=True)
        grid.caption = MACS_NOTE
    for stage in stages:
        macs = (*_format_pair(stage.macs), _format_shapes(stage.output_shape)) if has_macs else ()
        grid.add_row(stage.name, *_format_pair(stage.parameters), *macs)
    grid.add_section()
    parameters, total_macs = (_total(stages, cost) for cost in ("parameters", "macs"))
    grid.add_row("total", *_format_pair(parameters), *(_format_pair(total_macs) if has_macs else ()), style="bold")
    return grid


def _total(stages: Sequence[StageDiff], cost: str) -> tuple[int, int]:
    first, second = (sum(getattr(stage, cost)[side] or 0 for stage in stages) for side in (0, 1))
    return first, second


def to_data(changes: Sequence[Change], stages: Sequence[StageDiff]) -> dict[str, Any]:
    """Return the changes and stages as data for JSON."""
    return {"changes": [asdict(change) for change in changes], "stages": [_stage_data(stage) for stage in stages]}


def _stage_data(stage: StageDiff) -> dict[str, Any]:
    return {"name": stage.name, "parameters": stage.parameters, "macs": stage.macs, "gives": stage.output_shape}


def _format_pair(numbers: tuple[int | None, int | None]) -> tuple[str, str, str]:
    first, second = numbers
    change = (second or 0) - (first or 0)
    return _format_optional(first), _format_optional(second), f"{change:+,}" if change else ""


def _format_optional(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _format_shapes(shapes: tuple[Shape | None, Shape | None]) -> str:
    """Return one shape if both are equal or one is missing, else both with an arrow between them."""
    return " -> ".join(dict.fromkeys(format_shape(shape) for shape in shapes if shape))
