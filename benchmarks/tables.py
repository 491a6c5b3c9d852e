"""Measurements as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
"""A comparison or a figure, as ``measure.flat`` makes it."""

SHORT = ("resnet50", 8)
"""The network and the batch of the README's table."""
PEERS = {"torch": "torchvision", "paddle": "paddle.vision", "flax": "by hand"}
LINES = {
    "construction": ("construction",) * 3,
    "evaluation": ("evaluation",) * 3,
    "training step": ("training step",) * 3,
    '`mode="inference"`': ("inference mode", "inference mode", "inference mode, compiled"),
    "the same in bfloat16": ("inference mode, bfloat16", "inference mode, bfloat16", ""),
}
"""The lines of the README's table: what each framework does there."""


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured on a machine."""

    machine: dict[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()

    @staticmethod
    def read(path: Path) -> Results:
        """What a file holds; nothing if there is none."""
        if not path.exists():
            return Results()
        held = json.loads(path.read_text(encoding="utf-8"))
        return Results(held["machine"], tuple(held["records"]))

    def ratio(self, framework: str, model: str, batch: int, what: str) -> str:
        """Of ours to the framework's own peer; empty if it was not measured."""
        wanted = {"framework": framework, "model": model, "what": what, "batch": batch}
        for record in self.records:
            named = str(record.get("peer", "")).startswith(PEERS[framework])
            if named and all(record[key] == value for key, value in wanted.items()):
                return f"{record['ratio']:.2f}×"
        return ""


def short_table(found: Results) -> str:
    """How many times as fast as the frameworks' own, of one network."""
    name, batch = SHORT
    title = f"{name}, {batch} images, {found.machine['cores']} cores"
    rows = [[title, "torchvision", "paddle.vision", "NNX by hand"], ["---", "---:", "---:", "---:"]]
    for line, whats in LINES.items():
        cells = [
            found.ratio(framework, name, 0 if what == "construction" else batch, what)
            for framework, what in zip(PEERS, whats, strict=True)
        ]
        rows.append([line, *cells])
    return _markdown(rows)


def results_table(found: Results) -> str:
    """Everything, by framework: comparisons, then figures that stand for themselves."""
    rows = [record for record in found.records if "ratio" in record]
    figures = [record for record in found.records if "value" in record]
    machine = ", ".join(f"{key} {value}" for key, value in found.machine.items())
    machine = fill(machine, 120, break_on_hyphens=False)
    return f"{machine}\n\n{_compared(rows)}\n\n{_figures(figures)}"


def _compared(records: Iterable[Record]) -> str:
    head = [
        "",
        "network",
        "images",
        "what",
        "against",
        "times as fast",
        "quartiles",
        "ours",
        "theirs",
        "of products' rate",
    ]
    rows = [head, ["---", "---", "---:", "---", "---", *["---:"] * 5]]
    for one in records:
        sizes = [_number(one["ours"], one["unit"]), _number(one["theirs"], one["unit"])]
        share = f"{one['share']:.0%}" if one["share"] else ""
        spread = f"{one['low']:.2f} to {one['high']:.2f}"
        case = [one["framework"], one["model"], str(one["batch"] or ""), one["what"], one["peer"]]
        rows.append([*case, f"{one['ratio']:.2f}", spread, *sizes, share])
    return _markdown(rows)


def _figures(records: Iterable[Record]) -> str:
    rows = [["", "network", "what", "median", "quartiles"], ["---", "---", "---", "---:", "---:"]]
    for one in records:
        spread = f"{_number(one['low'])} to {_number(one['high'])}" if one["low"] != one["high"] else ""
        what = f"{one['what']}: off from float64 by" if one["unit"] == "off" else one["what"]
        unit = "" if one["unit"] == "off" else one["unit"]
        rows.append([one["framework"], one["model"], what, _number(one["value"], unit), spread])
    return _markdown(rows)


def _number(value: float, unit: str = "") -> str:
    return f"{value:.3g} {unit}".rstrip() if value < 100 else f"{value:.0f} {unit}".rstrip()


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
