"""Ten thousand specs that someone's cat may have walked over: each is read or refused, in place and in time, by either parser alike.

A tenth are made by Hypothesis, of the language's own forms; the rest are specs and problems with characters exchanged, added, doubled,
or taken away.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from time import process_time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spec import SpecError, loads
from resnet_spec.diagnostics.problems import Problem, Span
from resnet_spec.language.grammar import SPEC
from resnet_spec.syntax import yaml_events
from shared.paths import DATA, PROBLEMS, ROOT
from shared.spec_documents import documents

MUTANTS = 9_000
PARTS = 18
SECONDS = 2.0  # of a processor's time: what any spec may take

LONGEST = 1_200  # so that the slow parser, which reads each of them too, takes a minute and not ten
SPECS = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "specs").rglob("*.yaml"))]
EVERYTHING = (DATA / "everything.yaml").read_text(encoding="utf-8")
RIGHT = [EVERYTHING, *[text for text in SPECS if len(text) < LONGEST][:60]]
WRONG = [path.read_bytes().decode("utf-8", "replace") for path in sorted(PROBLEMS.glob("*.yaml"))]
WRONG = [text for text in WRONG if len(text) < LONGEST]

CHARACTERS = "\t\n\r {}[],:#&*!|>'\"%@`-?0a~<=.\\é中\x85\u2028\ufeff\u00a0\x00\ud800🎉"


def mutant(chance: random.Random) -> str:
    """A spec, or some lines of one, with one to six of its characters or stretches changed."""
    lines = chance.choice(RIGHT if chance.random() < 0.4 else WRONG).split("\n")
    if chance.random() < 0.3:
        start = chance.randrange(len(lines))
        lines = lines[start : start + chance.randrange(1, 9)]
    text = list("\n".join(lines))
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
        at = chance.randrange(len(text) + 1)
        to = min(len(text), at + chance.randrange(1, 30))
        match chance.randrange(6):
            case 0 | 1:
                text.insert(at, chance.choice(CHARACTERS))
            case 2:
                text[at : at + 1] = []
            case 3:
                text[at : at + 1] = [chance.choice(CHARACTERS)]
            case 4:
                text[at:to] = []
            case _:
                text[at:at] = text[at:to]
    return "".join(text)


def verdict(text: str) -> tuple[Problem, ...] | str:
    """What is wrong with a spec, or the network that it is. Any other exception is a failure, and so is taking long."""
    before = process_time()
    try:
        return repr(loads(text, name="fuzz.yaml"))
    except SpecError as error:
        str(error)
        return error.problems
    finally:
        assert process_time() - before < SECONDS, text


def examine(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a text with each of YAML's parsers, and see that they say the same of it, and that it is said of a place in it."""
    first = verdict(text)
    with monkeypatch.context() as patched:
        patched.setattr(yaml_events, "LIBYAML_LOADER", None)
        second = verdict(text)
    assert told(first) == told(second), text
    for problem in first if isinstance(first, tuple) else ():
        assert inside(problem.at), (text, str(problem))


def told(verdict: tuple[Problem, ...] | str) -> object:
    return verdict if isinstance(verdict, str) else [(problem.code, str(problem)) for problem in verdict]


def inside(at: Span) -> bool:
    """Whether a place is one of its source: in a line that there is, at a character of it or at its end."""
    lines = at.source.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return 1 <= at.line <= len(lines) and 1 <= at.column <= len(lines[at.line - 1]) + 1 and at.end > at.column


def test_pyyaml_has_both_parsers() -> None:
    """Else the rest would compare one with itself."""
    assert yaml_events.LIBYAML_LOADER is yaml.CSafeLoader
    assert yaml_events.PURE_PYTHON_LOADER is yaml.SafeLoader


@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_specs(part: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    chance = random.Random(part)
    for _ in range(MUTANTS // PARTS):
        examine(mutant(chance), monkeypatch)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(document=documents(SPEC))
def test_generated_specs(document: object) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        examine(json.dumps(document, ensure_ascii=False, indent=2), monkeypatch)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(text=st.text(alphabet=st.sampled_from(CHARACTERS), max_size=40))
def test_texts_of_what_yaml_minds(text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        examine(text, monkeypatch)


def test_some_mutants_are_read_and_most_are_refused() -> None:
    """Else the test would be of one branch alone."""
    chance = random.Random(0)
    read = sum(isinstance(verdict(mutant(chance)), str) for _ in range(500))
    assert 5 < read < 250
