"""No spec, however made, takes more than two seconds or 200 MiB to be refused; none runs code, or reads what it does not extend."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import SpecError, loads
from resnet_spec.syntax import yaml_events
from shared.hostile_texts import CHAINS, TEXTS
from shared.paths import ROOT

SECONDS, MEBIBYTES = 2.0, 200.0
HARMLESS = {"a megabyte of one text", "paths of much text", "layers as many as may be"}


@cache
def measured() -> dict[str, Any]:
    """What each took, in one process that reads them all."""
    script = ROOT / "tests/shared/hostile_texts.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [*TEXTS, *CHAINS])
def test_it_is_refused_in_time_and_in_little_memory(name: str) -> None:
    took = measured()[name]
    assert took["seconds"] < SECONDS
    assert took["mebibytes"] < MEBIBYTES
    assert bool(took["codes"]) == (name not in HARMLESS)


def test_the_parser_in_python_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libyaml is missing, less text is taken."""
    monkeypatch.setattr(yaml_events, "LIBYAML_LOADER", None)
    with pytest.raises(SpecError, match=r"RS104.*the limit is 262,144"):
        loads(TEXTS["a megabyte of dashes"])


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [touch ran]",
        "!!python/object/new:os.system [touch ran]",
        "a: !!python/name:os.system ''",
        "name: my\ninput: [3, 8, 8]\nstem: {a: {op: conv, out: __import__('os').system('touch ran'), kernel: 1}}",
        'name: my\ninput: [3, 8, 8]\nstem: {a: {op: "__class__"}, b: {op: "conv.__init__"}}',
        'name: my\ninput: [3, 8, 8]\nstages: {s: {block: ../../../etc/passwd, depth: 1, as: "{index.__class__}"}}',
        'name: my\ninput: [3, 8, 8]\nstages: {s: {block: basic, depth: 1, out: 3, as: "{index!r:>{number}}"}}',
    ],
)
def test_no_code_is_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError):
        loads(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", ".", "a\\0b", "x" * 5_000, "x/" * 400, "\\n", ""])
def test_what_is_no_file_is_not_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        loads(f'name: my\nextends: "{name}"\n', name=str(tmp_path / "my.yaml"))
    assert {problem.code for problem in error.value.problems} <= {"RS209", "RS105"}
