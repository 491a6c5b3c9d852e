"""Wrong specs, each with the whole text that it gives: ``tests/problems/NAME.yaml`` and ``NAME.txt``.

``pytest --rewrite tests/diagnostics/test_problems.py`` writes the texts anew; what has changed is then read as a diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec import SpecError, load
from resnet_spec.library import bundled
from shared.paths import PROBLEMS

FOLDER = PROBLEMS
CASES = sorted(FOLDER.glob("*.yaml"))


def told(path: Path) -> str:
    """What is said of a spec, with the bundled specs' folder under one name wherever it lies."""
    with pytest.raises(SpecError) as error:
        load(path.name)
    text = str(error.value)
    here = Path(str(bundled.directory()))
    for folder in (str(here), f"../../{here.name}"):
        text = text.replace(f"{folder}/", "<specs>/")
    return f"{text}\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_wrong_spec_is_told_all_of_this(path: Path, rewrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    text = told(path)
    wanted = path.with_suffix(".txt")
    if rewrite:
        wanted.write_text(text, encoding="utf-8")
    assert text == wanted.read_text(encoding="utf-8")


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 80
