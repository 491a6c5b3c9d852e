"""Parity finds every seeded mistake at its gates, and names the part at fault."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from resnet_spec import loads
from resnet_spec.parity.case import FORWARD_GROUPS, LEVELS, Case, Level
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.examine import examine
from shared.frameworks import required
from shared.local_runner import LocalRunner
from shared.paths import ROOT

pytest.importorskip("torch", reason="the mistakes are made in torch")

from shared.modern_mutants import MODERN_MUTANTS
from shared.parity_mutants import MUTANTS as RESIDUAL_MUTANTS
from shared.parity_mutants import Mutant, inject
from shared.sampling import one_in

MUTANTS = [*RESIDUAL_MUTANTS, *MODERN_MUTANTS]
SPECS = sorted({mutant.spec for mutant in MUTANTS})

HEAD = "| mistake | first seen in | worst | blamed |\n|---|---|---|---|"
TABLE: list[str] = []
PAGE = ROOT / "docs/reference/parity.md"


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print the table of docs/reference/parity.md: run ``pytest tests/parity/test_mutants.py -s``."""
    yield
    print("", HEAD, *TABLE, sep="\n")


@cache
def clean_runner(name: str) -> LocalRunner:
    return LocalRunner(name, required(name))


@cache
def case(spec: str, level: Level = LEVELS[-1]) -> Case:
    return Case(loads(spec), level=level)


def examine_mutant(spec: str, mutant: Mutant | None = None, level: Level = LEVELS[-1]) -> list[Finding]:
    torch = required("torch")
    runners = [LocalRunner("mutant", inject(torch, mutant) if mutant else torch), clean_runner("torch")]
    findings = examine(case(spec, level), clean_runner("numpy"), runners)
    return [finding for finding in findings if finding.backend == "mutant"]


def find_failing(mutant: Mutant) -> list[Finding]:
    """Return the findings that fail at the first level that has any.

    A mistake is seen in most groups from the first on, and to find the part at fault in all of them takes minutes.
    """
    for level in LEVELS:
        failing = [f for f in examine_mutant(mutant.spec, mutant, level) if f.verdict in ("differs", "failed")]
        if failing:
            return failing
    return []


@pytest.mark.parametrize("spec", SPECS, ids=["modern", "residual"])
def test_without_a_mistake_there_is_no_difference(spec: str) -> None:
    findings = examine_mutant(spec)
    expected = [(group, "same") for group in case(spec).groups]
    assert [(finding.group, finding.verdict) for finding in findings] == expected
    assert all(finding.count > 0 for finding in findings)


@pytest.mark.parametrize("mutant", one_in(6, MUTANTS), ids=lambda mutant: mutant.name)
def test_a_mistake_is_found_with_the_part_at_fault(mutant: Mutant) -> None:
    failing = find_failing(mutant)
    assert failing, "every gate is passed"
    first = failing[0]
    blame = [path or "the network as a whole" for path in first.blame]
    worst = "no answer" if first.failure else f"{first.worst:.0e}"
    TABLE.append(f"| {mutant.name} | {first.group} | {worst} | {shorten(blame)} |")
    assert (mutant.name, first.group, shorten(blame)) in read_published_table()
    if mutant.blame:
        assert set(first.blame) == set(mutant.blame)
    else:
        assert first.group == ("inference" if mutant.mode == "inference" else "updates")


def shorten(blame: list[str]) -> str:
    return ", ".join(blame[:3] or ["-"]) + (f" and {len(blame) - 3} more" if len(blame) > 3 else "")


def read_published_table() -> list[tuple[str, str, str]]:
    """Return the rows of the table in the docs, without the worst error, which depends on rounding."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if " | " in line]
    return [(row[0], row[1], row[3].removesuffix(" |")) for row in rows if len(row) == 4]


SEEN_IN_OUTPUTS = {name for name, group, _ in read_published_table() if group in FORWARD_GROUPS}
"""The mistakes that are seen in outputs, which are compared with the reference, whatever other backends compute."""


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.name not in SEEN_IN_OUTPUTS], ids=lambda mutant: mutant.name
)
def test_a_mistake_that_all_backends_share_is_found(mutant: Mutant) -> None:
    one = LocalRunner("one", inject(required("torch"), mutant))
    other = LocalRunner("other", one.backend)
    other.record = one.record
    findings = examine(case(mutant.spec), clean_runner("numpy"), [one, other], locate=False)
    failing = {finding.backend for finding in findings if finding.verdict == "differs"}
    assert failing == {"one", "other"}


def test_the_published_table_has_no_other_mistakes() -> None:
    assert [row[0] for row in read_published_table()[-len(MUTANTS) :]] == [mutant.name for mutant in MUTANTS]


def test_there_are_enough_mistakes() -> None:
    assert len(MUTANTS) >= 25
