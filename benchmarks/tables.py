"""Render results as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
"""A comparison or a figure, as ``measure.to_json`` returns it."""

SHORT_CASE = ("resnet50", 8)
"""The network and the batch size of the table in the README."""
PEERS = {"torch": "torchvision", "paddle": "paddle.vision", "flax": "by hand"}
ROWS = {
    "construction": ("construction",) * 3,
    "evaluation": ("evaluation",) * 3,
    "training step": ("training step",) * 3,
    '`mode="inference"`': ("inference mode", "inference mode", "inference mode, compiled"),
    "the same in bfloat16": ("inference mode, bfloat16", "inference mode, bfloat16", ""),
}
"""The rows of the table in the README, each with the task of each framework in ``PEERS``."""


@dataclass(frozen=True, slots=True)
class Results:
    """All results from one machine."""

    machine: dict[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()

    @staticmethod
    def read(path: Path) -> Results:
        """Read the results in a file; empty if there is no file."""
        if not path.exists():
            return Results()
        data = json.loads(path.read_text(encoding="utf-8"))
        return Results(data["machine"], tuple(data["records"]))

    def ratio(self, framework: str, model: str, batch: int, what: str) -> str:
        """Return the speed relative to the framework's peer; "" if it was not measured."""
        case = {"framework": framework, "model": model, "what": what, "batch": batch}
        for record in self.records:
            is_peer = str(record.get("peer", "")).startswith(PEERS[framework])
            if is_peer and all(record[key] == value for key, value in case.items()):
                return f"{record['ratio']:.2f}×"
        return ""


def render_short_table(results: Results) -> str:
    """Return a table of the speed of one network relative to the frameworks' own models."""
    name, batch = SHORT_CASE
    heading = f"{name}, {batch} images, {results.machine['cores']} cores"
    rows = [[heading, "torchvision", "paddle.vision", "NNX by hand"], ["---", "---:", "---:", "---:"]]
    for title, tasks in ROWS.items():
        cells = [
            results.ratio(framework, name, 0 if task == "construction" else batch, task)
            for framework, task in zip(PEERS, tasks, strict=True)
        ]
        rows.append([title, *cells])
    return _render_markdown(rows)


def render_results(results: Results) -> str:
    """Return the machine, a table of all comparisons, and one of all figures."""
    rows = [record for record in results.records if "ratio" in record]
    figures = [record for record in results.records if "value" in record]
    machine = ", ".join(f"{key} {value}" for key, value in results.machine.items())
    machine = fill(machine, 120, break_on_hyphens=False)
    return f"{machine}\n\n{_render_comparisons(rows)}\n\n{_render_figures(figures)}"


NOT_MEASURED = "These rows were not measured: no GPU was at hand. `python benchmarks/gpu.py` measures them."


def render_gpu_results(results: Results) -> str:
    """Return the card and the versions, and tables of what was measured there; a sentence if nothing was."""
    return render_results(results) if results.records else NOT_MEASURED


def _render_comparisons(records: Iterable[Record]) -> str:
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
    for record in records:
        sizes = [_format_number(record["ours"], record["unit"]), _format_number(record["theirs"], record["unit"])]
        share = f"{record['share']:.0%}" if record["share"] else ""
        spread = f"{record['low']:.2f} to {record['high']:.2f}"
        case = [record["framework"], record["model"], str(record["batch"] or ""), record["what"], record["peer"]]
        rows.append([*case, f"{record['ratio']:.2f}", spread, *sizes, share])
    return _render_markdown(rows)


def _render_figures(records: Iterable[Record]) -> str:
    rows = [["", "network", "what", "median", "quartiles"], ["---", "---", "---", "---:", "---:"]]
    for record in records:
        spread = (
            f"{_format_number(record['low'])} to {_format_number(record['high'])}"
            if record["low"] != record["high"]
            else ""
        )
        what = f"{record['what']}: off from float64 by" if record["unit"] == "off" else record["what"]
        unit = "" if record["unit"] == "off" else record["unit"]
        rows.append([record["framework"], record["model"], what, _format_number(record["value"], unit), spread])
    return _render_markdown(rows)


def _format_number(value: float, unit: str = "") -> str:
    return f"{value:.3g} {unit}".rstrip() if value < 100 else f"{value:.0f} {unit}".rstrip()


def _render_markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
