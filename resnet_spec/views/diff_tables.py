"""A difference as tables in a terminal, and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from resnet_spec.ops import Shape
from resnet_spec.views.network_diff import Change, Kind, Stage
from resnet_spec.views.table import shape

SIGNS: dict[Kind, tuple[str, str]] = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "renamed": ("=", "blue"),
}
"""What stands before each kind of change, and its colour."""


def what(changes: Sequence[Change]) -> Grid:
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


def costs(stages: Sequence[Stage], one: str, other: str) -> Grid:
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
        macs = (*_pair(stage.macs), _shapes(stage.output_shape)) if run else ()
        grid.add_row(stage.name, *_pair(stage.parameters), *macs)
    grid.add_section()
    parameters, macs_ = (_total(stages, cost) for cost in ("parameters", "macs"))
    grid.add_row("total", *_pair(parameters), *(_pair(macs_) if run else ()), style="bold")
    return grid


def _total(stages: Sequence[Stage], cost: str) -> tuple[int, int]:
    one, other = (sum(getattr(stage, cost)[side] or 0 for stage in stages) for side in (0, 1))
    return one, other


def as_data(changes: Sequence[Change], stages: Sequence[Stage]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {"changes": [asdict(change) for change in changes], "stages": [asdict(stage) for stage in stages]}


def _pair(numbers: tuple[int | None, int | None]) -> tuple[str, str, str]:
    one, other = numbers
    change = (other or 0) - (one or 0)
    return _count(one), _count(other), f"{change:+,}" if change else ""


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _shapes(shapes: tuple[Shape | None, Shape | None]) -> str:
    known = list(dict.fromkeys(shape(one) for one in shapes if one))
    return " -> ".join(known)
