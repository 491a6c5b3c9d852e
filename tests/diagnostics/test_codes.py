"""The table of codes: each that the source gives is in it, and each in it has a spec that gives it, and that mended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import resnet_spec
from resnet_spec import SpecError, loads
from resnet_spec.diagnostics.codes import Code, codes
from resnet_spec.diagnostics.problems import Problem
from resnet_spec.network.warnings import find_warnings
from shared.paths import PROBLEMS

CORE = Path(resnet_spec.__file__).parent


def problems(text: str) -> list[Problem]:
    """What is wrong with a spec, or if nothing is, what it is warned of."""
    try:
        return find_warnings(loads(text, name="my.yaml"))
    except SpecError as error:
        return list(error.problems)


def given() -> set[str]:
    """The codes that the source names as values."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in CORE.rglob("*.py"))
    return set(re.findall(r'"(RS\d{3})"', text))


def test_the_source_gives_the_codes_of_the_table() -> None:
    assert given() == set(codes())


each = pytest.mark.parametrize("code", codes().values(), ids=lambda code: code.code)


@each
def test_an_example_gives_its_code_and_nothing_else(code: Code) -> None:
    assert {problem.code for problem in problems(code.wrong)} == {code.code}


@each
def test_an_example_mended_is_right(code: Code) -> None:
    assert problems(code.right) == []


@each
def test_a_title_is_a_line_and_an_explanation_sentences(code: Code) -> None:
    assert re.fullmatch(r"[a-z][^\n.]{5,70}", code.title)
    assert re.fullmatch(r"[A-Z][^\n]+\.", code.explanation)


def test_every_code_is_in_the_corpus() -> None:
    """All but the warning, which is no error: so each is seen as users see it."""
    folder = PROBLEMS
    told = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.txt"))
    assert set(re.findall(r"error\[(RS\d{3})\]", told)) == set(codes()) - {"RS404"}
