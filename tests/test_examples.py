"""The example programs: three frameworks follow one loss curve, and a killed training run resumes exactly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import build, dump, save_weights
from shared.frameworks import required
from shared.paths import EXAMPLES, SHARED


def command(name: str, *options: str | Path) -> list[str]:
    """Return the command line that runs an example."""
    return [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py"), *map(str, options)]


def run_example(name: str, *options: str | Path) -> str:
    """Run an example, and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command(name, *options), capture_output=True, text=True, encoding="utf-8", check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.sweep
def test_three_frameworks_give_the_same_curve(tmp_path: Path) -> None:
    """One epoch in float64 is enough here. The example itself prints float32 and the final accuracies."""
    for name in ("torch", "paddle", "flax"):
        required(name)
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    printed = run_example("same_curve", "--epochs", "1", "--dtype", "float64", "--jobs", "3", "--plot", plot)
    differences = re.findall(r"losses of (\w+) and (\w+): (\S+) over the first 22 steps", printed)
    assert [pair for *pair, _ in differences] == [["torch", "paddle"], ["torch", "flax"], ["paddle", "flax"]]
    assert max(float(difference) for *_, difference in differences) < 1e-8
    assert plot.stat().st_size > 10_000


@pytest.mark.sweep
def test_mixed_precision_stays_in_its_band_and_keeps_the_accuracy() -> None:
    """In bfloat16, losses differ by less than the band, and accuracies from float32's by less than half a percent."""
    for name in ("torch", "paddle", "flax"):
        required(name)
    printed = run_example("same_curve", "--dtype", "float32", "--dtype", "bfloat16")
    exact, mixed = ([float(one) for one in re.findall(r"(\d+\.\d+) %", part)] for part in printed.split("bfloat16:"))
    assert len(exact) == len(mixed) == 3
    assert max(abs(a - b) for a, b in zip(exact, mixed, strict=True)) <= 0.5
    assert re.search(r"all three agree to \S+ for 264 steps", printed.partition("bfloat16:")[2])


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_killed_run_resumes_to_the_same_weights(name: str, tmp_path: Path) -> None:
    required(name)
    if name == "flax":
        pytest.importorskip("orbax.checkpoint")
    options = ("--epochs", "2", "--limit", "96", "--folder")
    uninterrupted = run_example(f"train_{name}", *options, tmp_path / "uninterrupted")
    assert re.search(r"test accuracy \d+\.\d\d %", uninterrupted)
    with subprocess.Popen(
        command(f"train_{name}", *options, tmp_path / "killed"), stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("epoch 1:") for line in process.stdout)  # reads only up to that line
        process.kill()
    assert "resuming after epoch" in run_example(f"train_{name}", *options, tmp_path / "killed")
    weights = [(tmp_path / run / "weights.safetensors").read_bytes() for run in ("uninterrupted", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_fine_tuning_leaves_frozen_layers(name: str, tmp_path: Path) -> None:
    """From akamaster's resnet20, if it is here: the stem and the first stage keep their weights, bit for bit."""
    required(name)
    weights = SHARED / "data" / "checkpoints" / "resnet20-12fca82f.th"
    if not weights.exists():
        weights = tmp_path / "initial.safetensors"
        save_weights(build("cifar/resnet20", backend="numpy", dtype="float32"), weights)
    options = ("--weights", weights, "--save", tmp_path / "tuned.safetensors", "--epochs", "1", "--limit", "192")
    printed = run_example(f"finetune_{name}", *options)
    assert re.search(r"epoch 1: loss \d\.\d+\ntest accuracy \d+\.\d\d %", printed)
    tuned = dump(build("cifar/resnet20", backend="numpy", weights=tmp_path / "tuned.safetensors", input=(1, 32, 32)))
    source: dict[str, Any] = {"weights": weights, "input": (1, 32, 32), "stem": "sum", "head": "new"}
    before = dump(build("cifar/resnet20", backend="numpy", **source))
    changed = {array.partition(".")[0] for array in tuned if (tuned[array] != before[array]).any()}
    assert changed == {"layer2", "layer3", "linear"}
