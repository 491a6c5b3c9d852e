"""``import`` and ``compare-model`` in a shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spec import load
from resnet_spec.importing.named_models import load_named_model
from shared.command_line import run_cli, run_several
from shared.frameworks import required

required("torch")

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        return self.fc(x.mean((2, 3)))

def make(**arguments):
    return Net(**arguments)

class Odd(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x).real

def broken():
    return 1 / 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    return tmp_path


def test_import_writes_a_spec_and_weights(folder: Path) -> None:
    done = run_cli(
        "import", "net.py:make(width=6)", "--input", "3x16x16", "-o", "n.yaml", "--weights", "n.npz", folder=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("compared  backend  images  arrays")
    assert done.stdout.splitlines()[-2:] == ["wrote n.yaml", "wrote n.npz"]
    assert load(folder / "n.yaml").weights()["conv.weight"] == (6, 3, 3, 3)
    compared = run_cli("compare-model", "net.py:make(width=6)", "--spec", "n.yaml", "--weights", "n.npz", folder=folder)
    assert (compared.returncode, compared.stdout.splitlines()[-1]) == (0, "the model and the spec compute the same")


def test_import_as_json(folder: Path) -> None:
    done = run_cli("import", "net.py:Net", "--input", "3x16x16", "--json", folder=folder)
    data = json.loads(done.stdout)
    assert (done.returncode, data["proven"], data["network"], data["renamed"]) == (0, True, "Net", {})
    assert {line["verdict"] for line in data["proof"]} == {"same"}
    assert data["spec"].startswith("name: Net\n")


def test_a_refused_model_writes_nothing(folder: Path) -> None:
    done = run_cli("import", "net.py:Odd", "--input", "3x16x16", "-o", "n.yaml", folder=folder)
    assert done.returncode == 2
    assert "fft_fft2 at net.py:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "n.yaml").exists()


WRONG_NAMES = [
    ("net.py", "a model is FILE.py:NAME or MODULE:NAME"),
    ("absent.py:Net", "no file named 'absent.py'"),
    ("net.py:Other", "there is no 'Other' in net.py"),
    ("net.py:make(width=int)", "are no literals"),
    ("net.py:broken", "calling broken of net.py failed: ZeroDivisionError: division by zero (net.py:"),
    ("net.py:NET", "there is no 'NET' in net.py"),
    ("json:dumps('a')", "expected a torch.nn.Module, got str"),
    ("no_such_module:Net", "importing no_such_module failed: ModuleNotFoundError"),
    ("absent.onnx", "no file named 'absent.onnx'"),
    ("absent.keras", "no file named 'absent.keras'"),
]


def test_a_wrong_name_is_an_error_in_a_sentence(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    for done, (_, message) in zip(
        run_several([["import", model, "-o", "n.yaml"] for model, _ in WRONG_NAMES], folder), WRONG_NAMES, strict=True
    ):
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert {path.name for path in folder.iterdir()} - before <= {"__pycache__"}


def test_a_model_that_differs_is_named(folder: Path) -> None:
    run_cli("import", "net.py:Net", "--input", "3x16x16", "-o", "n.yaml", "--weights", "n.safetensors", folder=folder)
    changed = NET.replace("torch.relu(self.bn(self.conv(x)))", "torch.tanh(self.bn(self.conv(x)))")
    (folder / "other.py").write_text(changed, encoding="utf-8")
    done = run_cli("compare-model", "other.py:Net", "--spec", "n.yaml", "--weights", "n.safetensors", folder=folder)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "the first that differs is fc")


def test_a_named_model_imports_what_lies_beside_it(folder: Path) -> None:
    (folder / "uses.py").write_text("from net import make\nmodel = make(classes=2)\n", encoding="utf-8")
    assert load_named_model(f"{folder / 'uses.py'}:model").fc.out_features == 2
