"""Networks side by side: the table, and the plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.command_line import run_here

NAMES = ["resnet18", "resnet34", "resnet50", "resnext50_32x4d"]


def test_networks_as_rows() -> None:
    rows = json.loads(run_here("compare", *NAMES, "--json").stdout)
    assert [row["network"] for row in rows] == NAMES
    assert rows[0] == {
        "network": "resnet18",
        "input": [3, 224, 224],
        "layers": 21,
        "parameters": 11_689_512,
        "statistics": 9_600,
        "share": 1.0,
        "macs": 1_814_073_344,
        "flops": 3_628_146_688,
        "memory": 32_921_504,
    }


def test_a_row_in_markdown() -> None:
    done = run_here("compare", *NAMES, "--format", "markdown", "--batch", "2", "--size", "64x64")
    assert (
        "| resnet50 | 2x3x64x64 | 54 | 25,557,032 | 53,120 | 671,383,552 | 1,342,767,104 | 24,551,232 |" in done.stdout
    )


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
@pytest.mark.share(2)
def test_the_plot_is_written(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="a scatter plot needs matplotlib, which is not installed")
    done = run_here("compare", *NAMES, "-o", tmp_path / f"plot.{ending}", "--theme", "dark")
    assert (done.returncode, done.stderr) == (0, "")
    data = (tmp_path / f"plot.{ending}").read_bytes()
    assert data[:4] in (b"<?xm", b"\x89PNG", b"%PDF")
    if ending == "svg":  # matplotlib draws letters as curves, and says in a comment what they are
        assert all(f"<!-- {word} -->".encode() in data for word in (*NAMES, "MACs", "parameters", "190 MB"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet18", "-o", "plot.gif"], "--output must end in one of .svg, .png, .pdf, not 'plot.gif'"),
        (["resnet18", "resnt34"], "error: no file or bundled network named 'resnt34'; did you mean 'resnet34'?"),
        ([], "Missing argument 'SPECS...'"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run_here("compare", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert said in done.stderr
