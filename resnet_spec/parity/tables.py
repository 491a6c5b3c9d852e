"""Findings for people and programs: a table, JSON, JUnit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.parity.compare import Finding


def table(findings: Sequence[Finding]) -> Table:
    """Findings for a terminal: one a line, the worst difference beside its gate."""
    found = Table(box=SIMPLE_HEAD)
    for heading in ("network", "backend", "type", "compared", "with"):
        found.add_column(heading, no_wrap=True)
    for heading in ("arrays", "worst", "gate"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("")
    for before, finding in zip((None, *findings), findings, strict=False):
        if before is not None and finding.verdict == "alone" and _about(before) == _about(finding):
            continue  # it is said once that a backend does not train
        bad = finding.verdict in ("differs", "failed")
        gate = "" if finding.gate is None else f"{finding.gate:.0e}"
        names = (finding.network, finding.backend, finding.dtype, finding.group, finding.reference)
        worst = f"{finding.worst:.1e}" if finding.count else ""
        found.add_row(
            *names, str(finding.count or ""), worst, gate, sentence(finding), style="bold red" if bad else None
        )
    found.caption = (
        "worst: the largest difference, relative to the array's largest magnitude; of a gradient, to the model's"
    )
    found.caption_justify = "left"
    return found


def sentence(finding: Finding) -> str:
    """What to say of a finding."""
    match finding.verdict:
        case "same" | "reported" as verdict:
            return verdict
        case "failed":
            return f"failed: {finding.failure}{_cause(finding)}"
        case "alone":
            return f"not compared: {finding.failure}"
        case "differs":
            unlike = f", which {finding.unlike}" if finding.unlike else ""
            judged = f"; by differences of the loss, {finding.wrong} is wrong" if finding.wrong else ""
            return f"differs first at {finding.where or 'the output'}{unlike}{_cause(finding)}{judged}"


def _about(finding: Finding) -> tuple[str, ...]:
    return finding.network, finding.backend, finding.dtype, finding.failure


def _cause(finding: Finding) -> str:
    blame = ", ".join(path or "the network as a whole" for path in finding.blame[:3])
    more = f" and {len(finding.blame) - 3} more" if len(finding.blame) > 3 else ""
    return f"; at fault: {blame}{more}" if blame else ""


def data(finding: Finding) -> dict[str, object]:
    """A finding as JSON holds it."""
    errors = {name: _finite(value) for name, value in finding.errors.items()}
    return {**asdict(finding), "worst": _finite(finding.worst), "errors": errors, "verdict": finding.verdict}


def totals(count: int, backends: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    """How many networks there were and how many differ, and each group's worst figure."""
    off = {finding.network for finding in findings if finding.verdict in ("differs", "failed")}
    worst: dict[str, float] = {}
    for finding in findings:
        if finding.count:
            worst[finding.group] = max(worst.get(finding.group, 0.0), finding.worst)
    arrays = sum(finding.count for finding in findings)
    figures = {group: _finite(value) for group, value in worst.items()}
    return {"networks": count, "backends": list(backends), "differ": len(off), "arrays": arrays, "worst": figures}


def line(totals: Mapping[str, Any]) -> str:
    """Totals in one line."""
    worst = {group: "infinite" if value is None else f"{value:.1e}" for group, value in totals["worst"].items()}
    figures = ", ".join(f"{group} {value}" for group, value in worst.items())
    names = ", ".join(totals["backends"])
    return f"{totals['networks']} networks in {names}: {totals['differ']} differ; {totals['arrays']:,} arrays compared; worst: {figures}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
