"""The GitHub action: its shell steps, with stubs in the place of pip and resnet-spec."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.paths import ROOT

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def run_step(name: str, folder: Path, **variables: str) -> list[str]:
    """Run a step of the action; return the arguments of the last command that it runs."""
    (step,) = (step for step in ACTION["runs"]["steps"] if step["name"] == name)
    assert set(step["env"]) <= set(variables)
    for program in ("python", "resnet-spec"):
        stub = folder / program
        stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n')
        stub.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(["bash", "-e", "-c", step["run"]], env={**variables, "PATH": path}, cwd=folder, check=True)
    return (folder / "arguments").read_text().splitlines()


@pytest.mark.parametrize(
    ("backend", "version", "package"),
    [
        ("torch", "", "/checkout of it[torch]"),
        ("", "", "/checkout of it"),
        ("flax", "==1.2", "resnet-spec[flax]==1.2"),
        ("", ">=1,<2", "resnet-spec>=1,<2"),
    ],
)
def test_the_action_installs_its_own_checkout_or_a_version(
    backend: str, version: str, package: str, tmp_path: Path
) -> None:
    path = {"GITHUB_ACTION_PATH": "/checkout of it"}
    arguments = run_step("Install", tmp_path, BACKEND=backend, VERSION=version, **path)
    assert arguments == ["-m", "pip", "install", package]


def test_the_action_compares_specs_with_records(tmp_path: Path) -> None:
    inputs = {"SPECS": "a.yaml b.yaml", "LEVEL": "forward", "SAVE": "records"}
    running = run_step("Compare", tmp_path, BACKEND="torch", AGAINST="", **inputs)
    assert running[:5] == ["parity", "a.yaml", "b.yaml", "--level", "forward"]
    assert running[-4:] == ["--backend", "torch", "--save", "records"]
    comparing = run_step("Compare", tmp_path, BACKEND="", AGAINST="one two", **inputs)
    assert comparing[-4:] == ["--against", "one", "--against", "two"]
