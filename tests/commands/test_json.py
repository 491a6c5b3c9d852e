"""Commands that write files or print text also print JSON; help and errors have one form in all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_spec.commands.main import COMMANDS
from shared.command_line import run_here


def test_draw_prints_json(tmp_path: Path) -> None:
    data = json.loads(run_here("draw", "cifar/resnet20", "-o", "a.svg", "--json", folder=tmp_path).stdout)
    size = (tmp_path / "a.svg").stat().st_size
    assert data == {"network": "resnet20", "file": "a.svg", "format": "svg", "bytes": size}


def test_new_prints_json(tmp_path: Path) -> None:
    data = json.loads(run_here("new", "my.yaml", "--like", "cifar/resnet20", "--json", folder=tmp_path).stdout)
    assert data == {"file": "my.yaml", "extends": "cifar/resnet20"}


def test_explain_prints_json() -> None:
    (code,) = json.loads(run_here("explain", "rs401", "--json").stdout)
    assert (code["code"], sorted(code)) == ("RS401", ["code", "explanation", "right", "title", "wrong"])
    assert len(json.loads(run_here("explain", "--json").stdout)) > 20


def test_export_prints_json(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    data = json.loads(run_here("export", "cifar/resnet20", "-o", "a.onnx", "--json", folder=tmp_path).stdout)
    files = [{"file": path.name, "bytes": path.stat().st_size} for path in sorted(tmp_path.iterdir())]
    assert data == {"network": "resnet20", "files": files}


def test_help_is_not_cut() -> None:
    text = run_here("--help").stdout
    assert "..." not in text.partition("Commands:")[2]
    assert all(f"\n  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [["draw", "resnet18", "-o", "a.jpg"], ["draw", "resnet18"], ["shwo"], ["show", "resnt18"], ["show", "--no"]],
)
def test_errors_begin_alike(arguments: list[str]) -> None:
    done = run_here(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
