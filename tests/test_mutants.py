"""Parity can fail: every seeded mistake is caught at the stated gates, and blamed on the right part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conftest import required
from resnet_spec import loads
from resnet_spec.parity.case import Case
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.examine import examine

pytest.importorskip("torch", reason="the mistakes are made in torch")

from mutants import MUTANTS, SPEC, Here, Mutant

TABLE: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print what was caught, and where: ``pytest tests/test_mutants.py -s``."""
    yield
    print("\n| mistake | first seen in | worst | blamed |\n|---|---|---|---|")
    print("\n".join(TABLE))


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
    blame = ", ".join(path or "the network as a whole" for path in first.blame)
    worst = "no answer" if first.failure else f"{first.worst:.0e}"
    TABLE.append(f"| {mutant.name} | {first.group} | {worst} | {blame[:60]} |")
    if mutant.blame:
        assert set(first.blame) == set(mutant.blame)
    else:
        assert first.group == "weights"


def test_there_are_enough_mistakes() -> None:
    assert len(MUTANTS) >= 25
