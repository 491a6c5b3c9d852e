"""Parity can fail: every seeded mistake is caught at the stated gates, and blamed on the right part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resnet_spec import loads
from resnet_spec.parity.case import Case
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.examine import examine
from shared.frameworks import required
from shared.paths import ROOT

pytest.importorskip("torch", reason="the mistakes are made in torch")

from shared.parity_mutants import MUTANTS, SPEC, Here, Mutant

HEAD = "| mistake | first seen in | worst | blamed |\n|---|---|---|---|"
TABLE: list[str] = []
PAGE = ROOT / "docs/reference/parity.md"


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print what was caught, and where: ``pytest tests/parity/test_mutants.py -s``."""
    yield
    print("", HEAD, *TABLE, sep="\n")


def examined(mutant: Mutant | None) -> list[Finding]:
    numpy, torch = required("numpy"), required("torch")
    subjects = [Here("mutant", torch, mutant), Here("torch", torch)]
    findings = examine(Case(loads(SPEC)), Here("numpy", numpy), subjects)
    return [finding for finding in findings if finding.backend == "mutant"]


def test_without_a_mistake_all_is_the_same() -> None:
    findings = examined(None)
    assert [(finding.group, finding.verdict) for finding in findings] == [
        (group, "same") for group in ("evaluation", "training forward", "loss", "gradient", "statistics", "weights")
    ]
    assert all(finding.count > 0 for finding in findings)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_is_caught_and_blamed(mutant: Mutant) -> None:
    off = [finding for finding in examined(mutant) if finding.verdict in ("differs", "failed")]
    assert off, "no gate has seen it"
    first = off[0]
    blame = [path or "the network as a whole" for path in first.blame]
    worst = "no answer" if first.failure else f"{first.worst:.0e}"
    TABLE.append(f"| {mutant.name} | {first.group} | {worst} | {shortened(blame)} |")
    assert (mutant.name, first.group, shortened(blame)) in published()
    if mutant.blame:
        assert set(first.blame) == set(mutant.blame)
    else:
        assert first.group == "weights"


def shortened(blame: list[str]) -> str:
    return ", ".join(blame[:3]) + (f" and {len(blame) - 3} more" if len(blame) > 3 else "")


def published() -> list[tuple[str, str, str]]:
    """The table in the docs, but for the worst figure, which rounding moves."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if " | " in line]
    return [(row[0], row[1], row[3].removesuffix(" |")) for row in rows if len(row) == 4]


def test_the_published_table_has_no_other_mistakes() -> None:
    assert [row[0] for row in published()[-len(MUTANTS) :]] == [mutant.name for mutant in MUTANTS]


def test_there_are_enough_mistakes() -> None:
    assert len(MUTANTS) >= 25
