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


TYPED = ["resnet50", "timm/mobilenetv2_100", "torchvision/densenet121", "timm/ghostnetv3_050"]


@pytest.mark.sweep
@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_modules_have_types(backend: str, tmp_path: Path) -> None:
    for index, name in enumerate(
        ["resnet50", "timm/mobilenetv2_100", "torchvision/densenet121", "timm/ghostnetv3_050"]
    ):
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


def test_the_page_shows_one_layer_in_three_frameworks() -> None:
    text = (ROOT / "docs/how-to/emit-code.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| `layer2.0.conv1` | PyTorch | PaddlePaddle | Flax NNX |"
    for index, backend in enumerate(FRAMEWORKS, 2):
        source = emit("resnet18", backend=backend)
        cells = [row.split(" | ")[index - 1].strip("| `") for row in rows[2:]]
        *classes, model = source.partition("class Basic(")[2].split("\nclass ")
        assert cells[0] in model
        assert cells[1] in classes[1]
        assert all(cell in classes[0] for cell in cells[2:])
        assert "self.conv1 = " in cells[2]
        assert "self.conv1(x)" in cells[3]


def test_layers_that_share_a_name_are_in_one_module() -> None:
    source = emit("torchvision/densenet121", backend="torch")
    assert "self.features = Features()" in source
    assert "x = self.global_pool(self.features(x)).flatten(1)" in source
    assert "self.stages = nn.Sequential(" in emit("timm/convnext_atto", backend="torch")
    outputs = emit("torchvision/densenet121", backend="torch", outputs=["features.denseblock1"])
    assert 'self.features["denseblock1"]' in outputs


SCATTERED = """
name: scattered
input: [4, 8, 8]
stem:
  a.conv: {op: conv, out: 4, kernel: 1}
  b.conv: {op: conv, out: 4, kernel: 1}
  a.norm: norm
  c.0: {op: conv, out: 4, kernel: 1}
  c.1: {op: scale}
  d-1: {op: conv, out: 4, kernel: 1}
  class: norm
  act: act
  all: {combine: add, branches: [{e.0: norm}, {e.1: {op: conv, out: 4, kernel: 1}}]}
"""


def test_layers_in_several_places_keep_their_containers() -> None:
    source = emit(loads(SCATTERED), backend="torch")
    assert (
        'self.a = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1, bias=False), "norm": nn.BatchNorm2d(4, eps=EPSILON)})'
        in source
    )
    assert "self.e = nn.ModuleList([nn.BatchNorm2d(4, eps=EPSILON), nn.Conv2d(4, 4, 1, bias=False)])" in source
    assert 'getattr(self, "class")' in source


def test_a_shortcut_with_a_name_that_is_no_attribute() -> None:
    """Keras names them by the number of the block."""
    source = emit("keras/ResNet50V2", backend="torch")
    assert 'setattr(self, "0_conv", nn.Identity())' in source


def test_numbers_of_branches_are_those_in_which_they_come() -> None:
    source = emit("timm/poolformer_s12", backend="torch")
    assert "y1 = self.norm1(x)\n        y2 = self.pool(y1)\n        y3 = self.layer_scale1(y2 - y1)" in source


def test_sizes_in_docstrings_are_exact() -> None:
    """299 pixels become 35: by no whole number. With stride 2, 35 become 17, which is a half."""
    source = emit("paddle/inception_v3", backend="torch")
    assert '"""Layers: (batch, 3, height, width) -> (batch, 192, height\', width\')."""' in source
    assert '"""Layers: (batch, 288, height, width) -> (batch, 768, height / 2, width / 2)."""' in source


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
    names = ["timm/convnextv2_atto", "vgg11_bn", "timm/regnety_002", "efficientnet_b0", "poolformer_s12", "xresnext50"]
    expected = ["ConvNeXtV2Atto", "VGG11Bn", "RegNetY002", "EfficientNetB0", "PoolFormerS12", "XResNeXt50"]
    assert [*map(class_name, names)] == expected


def test_the_command_writes_a_file_or_prints(tmp_path: Path) -> None:
    done = run_cli("emit", "cifar/resnet20", "--backend", "torch", "-o", "a.py", folder=tmp_path)
    source = (tmp_path / "a.py").read_text(encoding="utf-8")
    assert done.stdout == f"a.py: {source.count(chr(10))} lines\n"
    assert run_cli("emit", "cifar/resnet20", "--backend", "torch").stdout == source


def test_a_file_in_no_folder_is_an_error(tmp_path: Path) -> None:
    done = run_cli("emit", "resnet18", "--backend", "torch", "-o", "no/a.py", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: no folder named 'no'\n")
