"""``convert``, ``identify`` and ``weights diff`` in a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import convert, load
from resnet_spec.weights.canonical import Array
from shared.command_line import run_here
from shared.small_network import save_zeros, to_torch

torch = pytest.importorskip("torch")


def test_convert_in_a_shell(small: dict[str, Array]) -> None:
    torch.save({"state_dict": to_torch(small)}, "w.pth")
    done = run_here("convert", "w.pth", "there.pdparams", "--spec", "small.yaml", folder=Path())
    print_ = load("small.yaml").fingerprint
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "w.pth: PyTorch checkpoint",
        "  read under state_dict",
        f"there.pdparams: 42 arrays, 40,584 bytes, small, fingerprint {print_}",
    ]


def test_convert_as_json(small: dict[str, Array]) -> None:
    done = run_here(
        "convert", "w.safetensors", "t.npz", "--spec", "small.yaml", "--dtype", "float16", "--json", folder=Path()
    )
    data = json.loads(done.stdout)
    assert (data["arrays"], data["kind"], data["network"], data["target"]) == (42, "npz", "small", "t.npz")


def test_identify_in_a_shell(tmp_path: Path) -> None:
    save_zeros(tmp_path / "w.safetensors", "resnet18", classes=10)
    done = run_here("identify", "w.safetensors", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["resnet18", "but", "for", "the", "head", "its", "own", "102", "of", "102", "--set", "classes=10"] in lines
    data = json.loads(run_here("identify", "w.safetensors", "--json", folder=tmp_path).stdout)
    assert (data["matches"][0]["network"], data["matches"][0]["settings"]) == ("resnet18", {"classes": 10})


def test_identify_finds_nothing(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 5), np.float32)}, tmp_path / "w.safetensors")
    done = run_here("identify", "w.safetensors", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no bundled network has names or shapes like these" in done.stdout


def test_weights_diff_in_a_shell(small: dict[str, Array]) -> None:
    torch.save(to_torch(small), "w.pth")
    done = run_here("weights", "diff", "w.pth", "w.safetensors", folder=Path())
    assert (done.returncode, done.stderr) == (0, "")
    assert "42 of 42 arrays are the same, bit for bit" in done.stdout
    small["fc.bias"] += 1
    save_file(small, "w.safetensors")
    done = run_here("weights", "diff", "w.pth", "w.safetensors", "--json", folder=Path())
    assert done.returncode == 1
    assert [one["name"] for one in json.loads(done.stdout) if not one["identical"]] == ["fc.bias"]


def test_weights_diff_of_files_with_other_classes_in_a_shell(small: dict[str, Array]) -> None:
    small.update({"fc.weight": np.zeros((7, 16), np.float32), "extra": np.zeros(3, np.float32)})
    del small["bn1.bias"]
    save_file(small, "seven.safetensors")
    done = run_here("weights", "diff", "w.safetensors", "seven.safetensors", folder=Path())
    assert (done.returncode, done.stderr) == (1, "")
    words = " ".join(done.stdout.split())
    assert "fc.weight (10, 16) and (7, 16) float32" in words
    assert "extra - and (3,) - and float32" in words
    assert (
        "40 of 40 arrays are the same, bit for bit; 1 array is in the first file only; "
        "1 array is in the second file only; 1 array has another shape"
    ) in words
    data = json.loads(run_here("weights", "diff", "w.safetensors", "seven.safetensors", "--json", folder=Path()).stdout)
    assert [one["shapes"] for one in data if not one["identical"]] == [[[8], None], [[10, 16], [7, 16]], [None, [3]]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["convert", "no.pth", "t.npz", "--spec", "small.yaml"], "error: no weights file named 'no.pth'"),
        (
            ["convert", "w.safetensors", "t.npz", "--spec", "smal.yaml"],
            "error: no file or bundled network named 'smal.yaml'",
        ),
        (
            ["convert", "w.safetensors", "t.npz", "--spec", "resnet18"],
            "error: the weights do not fit the network:\n  missing layer1.1.conv1.weight",
        ),
        (
            ["convert", "w.safetensors", "t.npz", "--spec", "small.yaml", "--dtype", "int8"],
            "error: dtype is 'int8'; it can be float64,",
        ),
        (
            ["convert", "w.safetensors", "t.npz", "--spec", "small.yaml", "--names", "kears"],
            "error: names is 'kears'; it can be bit, caffe2,",
        ),
        (["convert", "w.safetensors", "no/t.npz", "--spec", "small.yaml"], "error: no such file or directory: "),
        (["identify", "small.yaml"], "error: small.yaml is not a checkpoint in a known format"),
        (
            ["diff", "w.safetensors", "small.yaml"],
            "error: w.safetensors is not a spec; if it is a checkpoint, compare it by: resnet-spec diff small.yaml",
        ),
        (
            ["diff", "w.safetensors", "w.safetensors"],
            "compare it by: resnet-spec weights diff w.safetensors w.safetensors",
        ),
        (["show", "w.safetensors"], "error[RS105]: w.safetensors is not text"),
        (["weights", "diff", "w.safetensors", "no.pth"], "error: no weights file named 'no.pth'"),
    ],
)
def test_what_is_wrong_is_said_in_a_shell(arguments: list[str], said: str, small: dict[str, Array]) -> None:
    done = run_here(*arguments, folder=Path())
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["small.yaml", "w.safetensors"]


@pytest.mark.parametrize("ending", [".pth", ".pdparams", ""])
def test_a_network_is_compared_with_a_checkpoint_of_any_kind(ending: str, small: dict[str, Array]) -> None:
    if ending == "":
        pytest.importorskip("tensorstore")
    small["fc.weight"] = np.zeros((7, 16), np.float32)
    small["fc.bias"] = np.zeros(7, np.float32)
    save_file(small, "w.safetensors")
    convert("w.safetensors", f"there{ending}", "small.yaml", classes=7)
    done = run_here("diff", "small.yaml", f"there{ending}", "--json", folder=Path())
    assert (done.returncode, done.stderr) == (1, "")
    changes = json.loads(done.stdout)["changes"]
    assert [(c["path"], c["before"], c["after"]) for c in changes] == [
        ("fc.weight", "10x16", "7x16"),
        ("fc.bias", "10", "7"),
    ]
    assert run_here("diff", "small.yaml", f"there{ending}", "--set", "classes=7", folder=Path()).returncode == 0


def test_a_conversion_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    """Killed while it writes, for real: the target is the old one, whole; what was begun lies beside it."""
    source = save_zeros(tmp_path / "w.safetensors", "wide_resnet50_2")
    (tmp_path / "t.pth").write_bytes(b"old")
    command = [
        sys.executable,
        "-m",
        "resnet_spec",
        "convert",
        str(source),
        "t.pth",
        "--spec",
        "wide_resnet50_2",
        "--dtype",
        "float64",
    ]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        while process.poll() is None and not any(path.stat().st_size > 10**6 for path in tmp_path.glob("*.part")):
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "t.pth").read_bytes() == b"old"
    assert [path.name.endswith(".part") for path in tmp_path.iterdir()].count(True) == 1
