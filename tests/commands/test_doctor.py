"""The command ``doctor``: what it says of backends that work, fail, hang, or compute something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spec.commands import doctor
from shared.command_line import run_cli

BASE = """
import os, time, numpy, resnet_spec_numpy
from resnet_spec_numpy import CAPABILITIES, DTYPE, build, dump, load, run
"""
BACKENDS = {
    "crashing": BASE + "os._exit(7)\n",
    "killed": BASE + "os.abort()\n",
    "raising": BASE + "raise RuntimeError('no driver\\nof version 9')\n",
    "wrong": BASE + "run = lambda *a, **k: {key: 1.01 * x for key, x in resnet_spec_numpy.run(*a, **k).items()}\n",
    "nan": BASE + "run = lambda *a, **k: {key: x * numpy.nan for key, x in resnet_spec_numpy.run(*a, **k).items()}\n",
    "chatty": BASE + "print('welcome')\ndevices = lambda: ['abacus:0']\n",
    "slow": BASE + "time.sleep(60)\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, which processes import from, with backends that have no fault but one each."""
    info = tmp_path / "backends-1.0.dist-info"
    info.mkdir()
    metadata = "Metadata-Version: 2.1\nName: backends\nVersion: 1.0\nProvides-Extra: absent\n"
    (info / "METADATA").write_text(metadata + 'Requires-Dist: no-such-package>=2; extra == "absent"\n')
    points = "".join(f"{name} = backend_{name}\n" for name in [*BACKENDS, "absent"])
    (info / "entry_points.txt").write_text(f"[resnet_spec.backends]\n{points}")
    for name, text in BACKENDS.items():
        (tmp_path / f"backend_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("crashing", "fails", "its process ended with status 7"),
        ("killed", "fails", "its process ended by signal 6"),
        ("raising", "fails", "of version 9"),
        ("wrong", "computes something else", "its output is 1.0e-02 from the reference's"),
        ("nan", "computes something else", "its output is not finite"),
        ("chatty", "works", ""),
        ("absent", "not installed", "needs no-such-package, which is not installed; try: pip install"),
    ],
)
def test_each_state_of_a_backend_is_told(folder: Path, name: str, status: str, message: str) -> None:
    finding = doctor.examine(name)
    assert finding.status == status
    assert message in finding.message and bool(message) == bool(finding.message)
    assert finding.devices == (["abacus:0"] if name == "chatty" else finding.devices)


def test_a_backend_that_does_not_answer_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 2.0)
    assert doctor.examine("slow").message == "no answer within 2 s"


@pytest.mark.sweep
def test_the_command_examines_every_backend(folder: Path) -> None:
    for name in ("slow", "crashing", "killed"):
        (folder / f"backend_{name}.py").write_text(BASE)
    done = run_cli("doctor", "--json", folder=folder)
    assert (done.returncode, done.stderr) == (1, "")  # some compute something else
    report = json.loads(done.stdout)
    statuses = {finding["backend"]: finding["status"] for finding in report["backends"]}
    assert {"numpy", "torch", "paddle", "flax", "onnx", *BACKENDS, "absent"} == {*statuses}
    assert {name for name, status in statuses.items() if status == "works"} >= {"numpy", "chatty", "slow"}
    assert "numpy" in report["libraries"] and report["bundled_networks"].split()[0].isdigit()
