"""Wrong specs, and the complete message of each: ``tests/problems/NAME.yaml`` and ``NAME.txt``.

``pytest --rewrite tests/diagnostics/test_problems.py`` rewrites the messages, for a review of the diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec import SpecError, load
from resnet_spec.library import bundled
from shared.paths import PROBLEMS

CASES = sorted(PROBLEMS.glob("*.yaml"))


def error_message(path: Path) -> str:
    """Return the message for a spec, in which <specs> stands for the folder of the bundled specs."""
    with pytest.raises(SpecError) as error:
        load(path.name)
    text = str(error.value)
    specs = Path(str(bundled.directory()))
    for folder in (str(specs), f"../../{specs.name}"):
        text = text.replace(f"{folder}/", "<specs>/")
    return f"{text}\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_message_is_as_recorded(path: Path, rewrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROBLEMS)
    text = error_message(path)
    recorded = path.with_suffix(".txt")
    if rewrite:
        recorded.write_text(text, encoding="utf-8")
    assert text == recorded.read_text(encoding="utf-8")


def test_enough_cases_are_recorded() -> None:
    assert len(CASES) >= 80
