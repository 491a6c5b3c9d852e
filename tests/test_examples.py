"""The examples do what they say: three frameworks on one curve, and a run that was killed ends where an unbroken one does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.frameworks import required
from shared.paths import EXAMPLES


def command(name: str, *options: str | Path) -> list[str]:
    return [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py"), *map(str, options)]


def done(name: str, *options: str | Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command(name, *options), capture_output=True, text=True, encoding="utf-8", check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_three_frameworks_give_the_same_curve(tmp_path: Path) -> None:
    """Two epochs in float64. In float32, and how accurate they are in the end, the command itself says."""
    for name in ("torch", "paddle", "flax"):
        required(name)
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    printed = done("same_curve", "--epochs", "2", "--dtype", "float64", "--jobs", "3", "--plot", plot)
    found = re.findall(r"losses of (\w+) and (\w+): (\S+) over the first 44 steps", printed)
    assert [pair for *pair, _ in found] == [["torch", "paddle"], ["torch", "flax"], ["paddle", "flax"]]
    assert max(float(worst) for *_, worst in found) < 1e-8
    assert plot.stat().st_size > 10_000


@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_a_killed_run_ends_where_an_unbroken_one_does(name: str, tmp_path: Path) -> None:
    required(name)
    if name == "flax":
        pytest.importorskip("orbax.checkpoint")
    options = ("--epochs", "3", "--limit", "192", "--folder")
    unbroken = done(f"train_{name}", *options, tmp_path / "unbroken")
    assert re.search(r"test accuracy \d+\.\d\d %", unbroken)
    with subprocess.Popen(
        command(f"train_{name}", *options, tmp_path / "killed"), stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as victim:
        assert victim.stdout is not None
        assert any(
            line.startswith("epoch 2:") for line in victim.stdout
        )  # it waits for that line, and reads no further
        victim.kill()
    assert "going on after epoch" in done(f"train_{name}", *options, tmp_path / "killed")
    weights = [(tmp_path / run / "weights.safetensors").read_bytes() for run in ("unbroken", "killed")]
    assert weights[0] == weights[1]
