"""The table of error codes is complete, and the example of each code has that problem and no other."""

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


def find_problems(text: str) -> list[Problem]:
    """Return the problems of a spec, or its warnings if it has none."""
    try:
        return find_warnings(loads(text, name="my.yaml"))
    except SpecError as error:
        return list(error.problems)


def codes_in_source() -> set[str]:
    """Return the codes that occur in the source as strings."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in CORE.rglob("*.py"))
    return set(re.findall(r'"(RS\d{3})"', text))


def test_table_has_the_codes_in_the_source() -> None:
    assert codes_in_source() == set(codes())


each = pytest.mark.parametrize("code", codes().values(), ids=lambda code: code.code)


@each
def test_wrong_example_has_no_other_problem(code: Code) -> None:
    assert {problem.code for problem in find_problems(code.wrong)} == {code.code}


@each
def test_corrected_example_has_no_problem(code: Code) -> None:
    assert find_problems(code.right) == []


@each
def test_title_is_a_phrase_and_explanation_is_sentences(code: Code) -> None:
    assert re.fullmatch(r"[a-z][^\n.]{5,70}", code.title)
    assert re.fullmatch(r"[A-Z][^\n]+\.", code.explanation)


def test_every_error_code_is_in_the_recorded_problems() -> None:
    """RS404 is a warning, so loading a spec does not raise it."""
    text = "".join(path.read_text(encoding="utf-8") for path in PROBLEMS.glob("*.txt"))
    assert set(re.findall(r"error\[(RS\d{3})\]", text)) == set(codes()) - {"RS404"}
