"""Two processes, or two devices, compute the gradients and statistics of one on all images, as the examples report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_spec.library.load import EXTENDS_FROM
from shared.frameworks import required
from shared.paths import EXAMPLES

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_ENABLE_X64": "1"}


@pytest.mark.parametrize(
    ("framework", "start", "options", "variance"),
    [
        ("torch", TORCHRUN, ["--engine", "ddp"], "unbiased"),
        ("torch", TORCHRUN, ["--engine", "fsdp"], "biased"),
        ("paddle", [], ["--processes", "2"], "unbiased"),
        ("paddle", [], ["--processes", "2"], "biased"),
        ("flax", [], [], "unbiased"),
    ],
)
@pytest.mark.sweep
def test_two_processes_compute_what_one_does(
    framework: str, start: list[str], options: list[str], variance: str, tmp_path: Path
) -> None:
    required(framework)
    spec = tmp_path / "spec.yaml"
    base = EXAMPLES / "digits.yaml"
    spec.write_text(
        f"{{name: s, extends: {base.as_posix()}, defaults: {{batch_norm: {{variance: {variance}}}}}}}", encoding="utf-8"
    )
    command = [sys.executable, *start, str(EXAMPLES / f"scale_{framework}.py"), *options, "--spec", str(spec)]
    environment = {**os.environ, **DEVICES, "OMP_NUM_THREADS": "1", EXTENDS_FROM: str(EXAMPLES)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    differences = re.findall(r"2 (?:processes|devices): 47 arrays, at most (\S+) apart", done.stdout)
    assert differences
    assert all(float(worst) < 1e-10 for worst in differences)
