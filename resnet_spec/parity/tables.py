"""Findings as sentences, as a table for a terminal, and as data for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from resnet_spec.parity.compare import Finding, Verdict

STYLES: dict[Verdict, str] = {"differs": "bold red", "failed": "bold red", "ill-conditioned": "bold yellow"}

_WORDS = {"alone": "not compared"}
"""The words for verdicts that have other names in the code."""

OPTIONAL_COLUMNS = ("arrays", "with", "gate", "type")
"""The columns that are left out in a terminal that is too narrow, the first one first."""


def to_table(findings: Sequence[Finding]) -> Table:
    """Return a table with one row per finding, the verdict first; ``explain`` gives the reasons.

    The name of the network is the title if there is only one.
    """
    names = {finding.network for finding in findings}
    several = len(names) > 1
    title = None if several else Text("".join(names))
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for heading in ("verdict", *(["network"] if several else []), "backend", "type", "compared", "with"):
        table.add_column(heading, no_wrap=True)
    for heading in ("arrays", "worst", "gate"):
        table.add_column(heading, justify="right", no_wrap=True)
    for finding in _without_repeats(findings):
        gate = "" if finding.gate is None else f"{finding.gate:.0e}"
        worst = f"{finding.worst:.1e}" if finding.count else ""
        network = [finding.network] if several else []
        row = (_WORDS.get(finding.verdict, finding.verdict), *network, finding.backend, finding.dtype, finding.group)
        style = STYLES.get(finding.verdict)
        table.add_row(*row, finding.reference, str(finding.count or ""), worst, gate, style=style)
    table.caption = (
        "worst: the largest error, relative to the largest magnitude in the array; for gradients, relative to the "
        "model's largest gradient\ngate: the largest error that passes; what has none is reported only"
    )
    table.caption_justify = "left"
    return table


def explain(findings: Sequence[Finding]) -> list[str]:
    """Return a sentence for each finding whose verdict has a reason: what differs, failed or was not compared."""
    return [
        f"{finding.network}, {finding.backend}, {finding.dtype}, {finding.group}: {describe(finding)}"
        for finding in _without_repeats(findings)
        if describe(finding) != finding.verdict
    ]


def _without_repeats(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings; of those that say that a backend does not train, one and not one for each group."""
    for previous, finding in zip((None, *findings), findings, strict=False):
        if previous is None or finding.verdict != "alone" or _subject(previous) != _subject(finding):
            yield finding


def describe(finding: Finding) -> str:
    """Return a finding's verdict as a sentence, with the reason."""
    match finding.verdict:
        case "same" | "reported" as verdict:
            return verdict
        case "ill-conditioned":
            explained = f"rounding alone explains {finding.rounding:.1e}"
            return f"ill-conditioned: not comparable in {finding.dtype}, first at {finding.where}; {explained}"
        case "failed":
            return f"failed: {finding.failure}{_describe_blame(finding)}"
        case "alone":
            return f"not compared: {finding.failure}"
        case "differs":
            mismatch = f", which {finding.unlike}" if finding.unlike else ""
            wrong = f"; {finding.wrong} is wrong, by central differences of the loss" if finding.wrong else ""
            return f"differs first at {finding.where or 'the output'}{mismatch}{_describe_blame(finding)}{wrong}"


def _subject(finding: Finding) -> tuple[str, ...]:
    return finding.network, finding.backend, finding.dtype, finding.failure


def _describe_blame(finding: Finding) -> str:
    blame = ", ".join(path or "the network as a whole" for path in finding.blame[:3])
    more = f" and {len(finding.blame) - 3} more" if len(finding.blame) > 3 else ""
    return f"; at fault: {blame}{more}" if blame else ""


def to_json(finding: Finding) -> dict[str, object]:
    """Return a finding as data for JSON, in which null stands for an infinite error."""
    figures = {name: _finite_or_none(getattr(finding, name)) for name in ("worst", "rounding", "gate")}
    arrays = {
        key: {name: _finite_or_none(value) for name, value in getattr(finding, key).items()}
        for key in ("errors", "gates")
    }
    return {**asdict(finding), **figures, **arrays, "verdict": finding.verdict}


def summarize(count: int, backends: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    """Return how many of ``count`` networks differ or are ill-conditioned, how many arrays, and the worst errors.

    The errors are by type and group. A network that differs is not counted as ill-conditioned too.
    """
    different = {finding.network for finding in findings if finding.verdict in ("differs", "failed")}
    unknown = {finding.network for finding in findings if finding.verdict == "ill-conditioned"} - different
    worst: dict[str, dict[str, float]] = {}
    for finding in findings:
        if finding.count:
            of_type = worst.setdefault(finding.dtype, {})
            of_type[finding.group] = max(of_type.get(finding.group, 0.0), finding.worst)
    return {
        "networks": count,
        "backends": list(backends),
        "differ": len(different),
        "ill-conditioned": len(unknown),
        "arrays": sum(finding.count for finding in findings),
        "worst": {
            dtype: {group: _finite_or_none(value) for group, value in of_type.items()}
            for dtype, of_type in worst.items()
        },
    }


def format_summary(summary: Mapping[str, Any]) -> str:
    """Return what ``summarize`` returns as one line of text."""
    worst = "; ".join(f"worst in {dtype}: {_format_figures(of_type)}" for dtype, of_type in summary["worst"].items())
    unknown = f", {summary['ill-conditioned']} are ill-conditioned" if summary["ill-conditioned"] else ""
    return (
        f"{summary['networks']} networks in {', '.join(summary['backends'])}: {summary['differ']} differ{unknown}; "
        f"{summary['arrays']:,} arrays compared{f'; {worst}' if worst else ''}"
    )


def _format_figures(worst: Mapping[str, float | None]) -> str:
    return ", ".join(f"{group} {'infinite' if value is None else f'{value:.1e}'}" for group, value in worst.items())


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
