"""The source of emitted modules: formatted, without lint, short, and with what the options ask for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from resnet_spec import BackendError, emit, load, loads
from resnet_spec.emitting.dialect import class_name
from resnet_spec.emitting.dialects import find_dialect
from resnet_spec.emitting.helpers import split_helpers
from resnet_spec.library import bundled
from shared.command_line import run_cli
from shared.paths import ROOT

FRAMEWORKS = ("torch", "paddle", "flax")


def check_with_ruff(folder: Path) -> None:
    """Assert that ruff would change nothing and finds nothing in the modules of a folder."""
    for command in (["format", "--check", "--quiet"], ["check", "--quiet", "--output-format", "concise"]):
        line = [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(folder)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


NAMES = bundled.names()
SHARE = NAMES[7::150]
CHUNKS = [pytest.param(SHARE, id="share")] + [
    pytest.param(NAMES[start : start + 50], id=str(start), marks=pytest.mark.sweep)
    for start in range(0, len(NAMES), 50)
]


@pytest.mark.parametrize("names", CHUNKS)
def test_modules_are_formatted_and_without_lint(names: Sequence[str], tmp_path: Path) -> None:
    for index, name in enumerate(names):
        for backend in FRAMEWORKS:
            (tmp_path / f"{backend}{index}.py").write_text(emit(name, backend=backend), encoding="utf-8")
    check_with_ruff(tmp_path)


@pytest.mark.parametrize(("name", "most"), [("resnet18", 120), ("resnet50", 130)])
@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_usual_networks_are_short(backend: str, name: str, most: int) -> None:
    assert emit(name, backend=backend).count("\n") <= most


@pytest.mark.sweep
@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_modules_have_types(backend: str, tmp_path: Path) -> None:
    for index, name in enumerate(["resnet50", "timm/mobilenetv2_100", "torchvision/densenet121", "timm/resnest14d"]):
        (tmp_path / f"module{index}.py").write_text(emit(name, backend=backend), encoding="utf-8")
    # Flax's own ``eval`` has no types.
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--allow-untyped-calls"]
    command = [sys.executable, "-m", "mypy", *options, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_modules_import_nothing_of_ours(backend: str) -> None:
    source = emit("timm/resnest14d", backend=backend, with_main=True)
    assert not [line for line in source.splitlines() if "import" in line and "resnet_spec" in line]


def test_a_block_is_a_class_with_the_arguments_of_the_spec() -> None:
    source = emit("resnet50", backend="torch")
    assert "def __init__(self, in_channels: int, width: int, out_channels: int, stride: int = 1) -> None:" in source
    assert "if stride != 1 or in_channels != out_channels:" in source
    assert "self.layer3 = Layer(512, 256, 1024, depth=6, stride=2)" in source


def test_a_dropped_shortcut_is_a_condition() -> None:
    source = emit("timm/mobilenetv2_100", backend="torch")
    assert source.count("class InvertedResidual(") == 1
    assert "if self.has_shortcut else" in source


def test_classes_are_an_argument_unless_the_network_is_loaded() -> None:
    assert "def build(classes: int = 1000)" in emit("resnet18", backend="paddle")
    assert "def build(classes: int = 7)" in emit("resnet18", backend="paddle", classes=7)
    assert "def build() ->" in emit(load("resnet18"), backend="paddle")


def test_a_block_of_ones_own_has_its_names() -> None:
    text = """
name: mine
input: [3, 32, 32]
blocks:
  twice:
    takes: {out: required, grown: required}
    branch: {one: {op: conv, out: grown, kernel: 1}, two: {op: conv, out: out, kernel: 1}}
stages:
  a: {block: twice, depth: 1, out: 3, grown: 8}
  b: {block: twice, depth: 1, out: 3, grown: 9}
"""
    source = emit(loads(text), backend="torch")
    assert "class Twice(nn.Module):" in source
    assert "def __init__(self, grown: int) -> None:" in source


def test_comments_say_the_shapes_of_stages() -> None:
    source = emit("resnet18", backend="torch", comments=True)
    assert "x = self.layer2(x)  # (batch, 128, 28, 28)" in source
    assert "x = self.layer2(x)  # (batch, 28, 28, 128)" in emit("resnet18", backend="flax", comments=True)


@pytest.mark.parametrize(("backend", "own"), [("paddle", "class BatchNorm2D("), ("flax", "class BatchNorm(")])
def test_native_takes_the_frameworks_own_and_says_what_differs(backend: str, own: str) -> None:
    assert own in emit("resnet18", backend=backend)
    source = emit("resnet18", backend=backend, native=True)
    assert own not in source
    assert "its running variance is that of the batch" in source.partition('"""')[2].partition('"""')[0]


def test_outputs_are_a_tuple() -> None:
    source = emit("resnet18", backend="torch", outputs=["layer2", "layer4"])
    assert "-> tuple[Tensor, Tensor]:" in source
    assert "self.fc" not in source


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_helpers_are_named_as_they_are_emitted(backend: str) -> None:
    pieces = split_helpers(find_dialect(backend).helpers())
    assert {"numbered", "resize_like"} <= set(pieces)
    assert all(name in piece for name, piece in pieces.items())


def test_a_backend_that_writes_no_code_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"backend 'numpy' writes no code; those that do are: torch, paddle, flax"):
        emit("resnet18", backend="numpy")


def test_names_of_classes() -> None:
    assert class_name("cifar/resnet20") == "ResNet20"
    assert class_name("3d") == "Network3d"


def test_the_command_writes_a_file_or_prints(tmp_path: Path) -> None:
    done = run_cli("emit", "cifar/resnet20", "--backend", "torch", "-o", "a.py", folder=tmp_path)
    source = (tmp_path / "a.py").read_text(encoding="utf-8")
    assert done.stdout == f"a.py: {source.count(chr(10))} lines\n"
    assert run_cli("emit", "cifar/resnet20", "--backend", "torch").stdout == source


def test_a_file_in_no_folder_is_an_error(tmp_path: Path) -> None:
    done = run_cli("emit", "resnet18", "--backend", "torch", "-o", "no/a.py", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: no folder named 'no'\n")
