"""Malicious specs are rejected within two seconds and 200 MiB, run no code, and read no other files."""

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
from shared.hostile_texts import CHAINS, MAX_CALLS, TEXTS
from shared.paths import ROOT
from shared.sampling import one_in

MAX_MEBIBYTES = 200.0
VALID = {"paths of much text", "layers as many as may be"}
"""Texts that are valid specs, close to the limits."""


CASES = one_in(12, [*TEXTS, *CHAINS])
NAMES = {sweeps: [str(case.values[0]) for case in CASES if sweeps or not case.marks] for sweeps in (False, True)}
"""The names of texts that are measured with and without ``--sweep``."""


@cache
def measure(sweeps: bool) -> dict[str, Any]:
    """Return the calls and memory of each text, measured in one separate process."""
    command = [sys.executable, "-m", "shared.hostile_texts"]
    names = json.dumps(NAMES[sweeps])
    done = subprocess.run(command, input=names, capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    measurements: dict[str, Any] = json.loads(done.stdout)
    return measurements


@pytest.mark.parametrize("name", CASES)
def test_work_and_memory_are_bounded(name: str, pytestconfig: pytest.Config) -> None:
    measurement = measure(bool(pytestconfig.getoption("--sweep")))[name]
    assert measurement["calls"] <= MAX_CALLS
    assert measurement["mebibytes"] < MAX_MEBIBYTES
    assert bool(measurement["codes"]) == (name not in VALID)


def test_limit_is_lower_without_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_specs_run_no_code(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError):
        loads(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", ".", "a\\0b", "x" * 5_000, "x/" * 400, "\\n", ""])
def test_extends_reads_regular_files_only(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        loads(f'name: my\nextends: "{name}"\n', name=str(tmp_path / "my.yaml"))
    assert {problem.code for problem in error.value.problems} <= {"RS209", "RS105", "RS212"}
