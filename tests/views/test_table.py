"""The table of a network: its rows at each depth, its columns, and each of its formats."""

from __future__ import annotations

import csv
import io
import json

import pytest

from resnet_spec import load
from resnet_spec.views.table import ADDITIVE_COLUMNS, COLUMNS, build_table
from shared.command_line import run_here


@pytest.mark.parametrize("name", ["resnet50", "seresnet50"])
@pytest.mark.parametrize("depth", [1, 2, 3, None])
def test_rows_without_groups_add_up_to_the_total(name: str, depth: int | None) -> None:
    table = build_table(load(name), depth, grouped=False)
    assert table.total
    # The sums of residual blocks need memory too, but are no rows below depth 2.
    exceptions = {"share", "memory"} if depth is None or depth > 2 else {"share"}
    for column in set(ADDITIVE_COLUMNS) - exceptions:
        assert sum(row.values[column] for row in table.rows) == table.total[column]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("depth", "paths"),
    [
        (1, ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]),
        (2, ["conv1", "bn1", "relu", "maxpool", "layer1", "layer1.0", "layer1.1", "layer2"]),
        (3, ["conv1", "bn1", "relu", "maxpool", "layer1", "layer1.0", "layer1.0.conv1", "layer1.0.bn1"]),
    ],
)
def test_depth_hides_deeper_parts(depth: int, paths: list[str]) -> None:
    assert [row.values["path"] for row in build_table(load("resnet18"), depth).rows][: len(paths)] == paths


def test_a_batch_multiplies_macs_and_memory() -> None:
    one, eight = (build_table(load("resnet18"), 1, batch).rows[4].values for batch in (1, 8))
    assert [eight[name] for name in ("macs", "flops", "memory")] == [8 * one[n] for n in ("macs", "flops", "memory")]  # type: ignore[operator]
    assert (eight["parameters"], eight["statistics"]) == (one["parameters"], one["statistics"])
    assert (one["out"], eight["out"]) == ((64, 56, 56), (8, 64, 56, 56))


def test_flops_are_twice_the_macs_and_the_output_says_so() -> None:
    assert all(row.values["flops"] == 2 * row.values["macs"] for row in build_table(load("resnet18")).rows)  # type: ignore[operator]
    assert "FLOPs = 2 x MACs" in run_here("show", "resnet18").stdout


def test_every_column_can_be_shown() -> None:
    done = run_here("show", "resnet50", "--format", "csv", "--columns", ",".join(COLUMNS))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows[0] == {
        "path": "conv1",
        "operation": "conv",
        "in": "3x224x224",
        "out": "64x112x112",
        "kernel": "7",
        "stride": "2",
        "parameters": "9408",
        "share": str(9408 / 25_557_032),
        "statistics": "0",
        "macs": "118013952",
        "flops": "236027904",
        "memory": str(64 * 112 * 112 * 4),
        "field": "7",
        "step": "2",
    }


def test_shapes_are_for_the_requested_image_size() -> None:
    done = run_here("show", "resnet18", "--size", "64x96", "--depth", "1", "--format", "csv", "--columns", "path,out")
    assert "layer4,512x2x3\n" in done.stdout


def test_markdown() -> None:
    columns = "path,operation,out,parameters,share"
    done = run_here("show", "resnet18", "--depth", "1", "--format", "markdown", "--columns", columns)
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "**resnet18, for one image 3x224x224**",
        "",
        "| path | operation | out | parameters | share |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    assert lines[8] == "| layer1 | 2 blocks | 64x56x56 | 147,968 | 1.3 % |"
    assert lines[14:] == ["| total |  | 1000 | 11,689,512 | 100.0 % |", "", "share: of the network's parameters"]


def test_latex() -> None:
    done = run_here("show", "resnet18", "--depth", "2", "--format", "latex", "--columns", "path,operation,macs")
    lines = done.stdout.splitlines()
    assert lines[1:5] == [r"\begin{tabular}{llr}", r"\toprule", r"path & operation & MACs \\", r"\midrule"]
    assert r"maxpool & max\_pool &  \\" in lines
    assert r"\hspace{1em}layer1.0 & residual & 231,211,008 \\" in lines


def test_json_rows_count_no_cost_twice() -> None:
    data = json.loads(run_here("show", "resnet18", "--json", "--batch", "2").stdout)
    assert sum(row["macs"] for row in data["layers"]) == data["macs"] == 2 * 1_814_073_344
    assert data["flops"] == 2 * data["macs"]


@pytest.mark.parametrize(("width", "headings"), [("130", {"MACs", "FLOPs"}), ("80", {"MACs"})])
def test_a_narrow_terminal_gets_fewer_columns(
    width: str, headings: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resnet_spec.commands.show import show_

    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich treat the output as a terminal
    monkeypatch.setenv("COLUMNS", width)
    show_.main(["resnet18"], standalone_mode=False)
    output = capsys.readouterr().out
    assert {heading for heading in ("MACs", "FLOPs") if heading in output.splitlines()[2]} == headings
    assert "…" not in output  # no cell is cut off
