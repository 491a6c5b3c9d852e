"""Differences between two networks, or a network and a checkpoint: the changes, and the costs of stages."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import Network, load, loads
from resnet_spec.views.checkpoint_diff import diff_weight_stages, diff_weights
from resnet_spec.views.network_diff import diff_networks, diff_stages
from shared.command_line import run_here

SQUEEZED = "{name: squeezed, extends: resnet50, stages: {STAGES}}".replace(
    "STAGES",
    ", ".join(
        f"layer{n}: {{attention: {{block: squeeze_excite, reduced: {reduced}}}}}"
        for n, reduced in ((1, 16), (2, 32), (3, 64), (4, 128))
    ),
)
POOLED = """
name: pooled
extends: resnet50
stem:
  conv1:
    - {op: conv, out: 32, kernel: 3, stride: 2, padding: 1}
    - norm
    - act
    - {op: conv, out: 64, kernel: 3, padding: 1}
stages:
  layer1: {projection: avg_pool_projection}
  layer2: {projection: avg_pool_projection}
  layer3: {projection: avg_pool_projection}
  layer4: {projection: avg_pool_projection}
"""


def network(spec: str) -> Network:
    """Return the network of a spec's text, or a bundled network by name."""
    return loads(spec) if "{" in spec else load(spec)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("resnet50", "resnet50", []),
        (
            "resnet18",
            "resnet18_biased_shortcut",
            [
                ("changed", "layer2.0.downsample.0", "bias: false", "bias: true", 1),
                ("changed", "layer3.0.downsample.0", "bias: false", "bias: true", 1),
                ("changed", "layer4.0.downsample.0", "bias: false", "bias: true", 1),
                ("renamed", "classifier", "fc", "classifier", 1),
            ],
        ),
        (
            "resnet50",
            "resnet101",
            [
                (
                    "added",
                    "layer3.6-22",
                    "",
                    "conv, batch_norm, relu, conv, batch_norm, relu, conv, batch_norm, relu",
                    17,
                )
            ],
        ),
        (
            SQUEEZED,
            "resnet50",
            [
                ("removed", f"layer{stage}.0-{depth - 1}.se", "global_avg_pool, conv, relu, conv, sigmoid", "", depth)
                for stage, depth in ((1, 3), (2, 4), (3, 6), (4, 3))
            ],
        ),
        (
            "resnet50",
            POOLED,
            [
                (
                    "changed",
                    "conv1",
                    "conv {out: 64, kernel: 7, stride: 2, padding: 3}",
                    "conv, batch_norm, relu, conv",
                    1,
                ),
                ("added", "layer1.0.downsample.0", "", "avg_pool {kernel: 1, ceil: true}", 1),
                *[
                    change
                    for stage in (2, 3, 4)
                    for change in (
                        ("added", f"layer{stage}.0.downsample.0", "", "avg_pool {kernel: 2, stride: 2, ceil: true}", 1),
                        ("changed", f"layer{stage}.0.downsample.1", "stride: 2", "stride: 1", 1),
                    )
                ],
            ],
        ),
    ],
)
def test_changes_between_networks(first: str, second: str, expected: list[tuple[object, ...]]) -> None:
    changes = diff_networks(network(first), network(second))
    assert [astuple(change) for change in changes] == expected


@pytest.mark.parametrize(
    ("edit", "change"),
    [
        (("combine: multiply", "combine: add"), ("changed", "gate", "combine: multiply", "combine: add")),
        (("input: [4, 8, 8]", "input: [4, 9, 9]"), ("changed", "input", "4x8x8", "4x9x9")),
        (("act: silu", "act: gelu"), ("changed", "act", "silu", "gelu")),
        (
            ("kernel: 3, padding: 1", "kernel: 1"),
            ("changed", "gate.c", "kernel: 3, padding: 1", "kernel: 1, padding: 0"),
        ),
    ],
)
def test_one_edit_is_one_change(edit: tuple[str, str], change: tuple[str, ...]) -> None:
    text = (
        "{name: n, input: [4, 8, 8],"
        " blocks: {g: {combine: multiply, branch: {c: {op: conv, out: 4, kernel: 3, padding: 1}}}},"
        " stem: {gate: {block: g}, act: silu}}"
    )
    changes = diff_networks(loads(text), loads(text.replace(*edit)))
    assert [(each.kind, each.path, each.before, each.after) for each in changes] == [change]


@pytest.mark.parametrize(
    ("setting", "value", "change"),
    [
        ("combine", "multiply", ("combine: add", "combine: multiply")),
        ("cascade", True, ("cascade: false", "cascade: true")),
        ("split", (2, 2), ("split: false", "split: (2, 2)")),
        ("collect", True, ("collect: false", "collect: true")),
        ("resize", "nearest", ("resize: ", "resize: nearest")),
    ],
)
def test_a_setting_of_parallel_branches_is_a_change(setting: str, value: Any, change: tuple[str, str]) -> None:
    first = loads("{name: n, input: [4, 8, 8], stem: {both: {combine: add, branches: [{a: act}, none]}}}")
    (both,) = first.parts
    second = replace(first, parts=(replace(both, **{setting: value}),))
    assert [astuple(each) for each in diff_networks(first, second)] == [("changed", "both", *change, 1)]


@pytest.mark.parametrize(
    ("first", "second"), [("resnet50", "resnet50d"), ("resnet18", "resnet50"), ("resnet18", "resnet34_cifar")]
)
def test_stages_add_up_to_the_networks(first: str, second: str) -> None:
    networks = load(first), load(second)
    stages = diff_stages(*networks)
    for side in (0, 1):
        assert sum(stage.parameters[side] or 0 for stage in stages) == networks[side].parameters
        assert sum(stage.macs[side] or 0 for stage in stages) == networks[side].macs


def test_a_stage_that_one_network_lacks_has_costs_on_one_side() -> None:
    three_stages = "{name: three, extends: resnet18, stages: {layer4: null}}"
    stages = {stage.name: stage for stage in diff_stages(load("resnet18"), loads(three_stages))}
    assert stages["layer4"].parameters == (8_393_728, None)
    assert stages["layer3"].parameters == (2_099_712, 2_099_712)


def test_the_command_prints_changes_and_stages() -> None:
    done = run_here("diff", "resnet50", "resnet101")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert any(line.startswith("+ layer3.6-22 conv, batch_norm, relu, conv,") for line in lines)
    costs = "7,098,368 26,090,496 +18,992,128 1,464,336,384 5,176,557,568 +3,712,221,184"
    assert f"layer3 {costs} 1024x14x14" in lines
    assert "total 25,557,032 44,549,160 +18,992,128 4,089,184,256 7,801,405,440 +3,712,221,184" in lines


def test_the_command_prints_json() -> None:
    data = json.loads(run_here("diff", "resnet18", "resnet18_biased_shortcut", "--json").stdout)
    assert [change["path"] for change in data["changes"]][-1] == "classifier"
    assert data["stages"][2] == {
        "name": "layer2",
        "parameters": [525_568, 525_696],
        "macs": [411_041_792] * 2,
        "gives": [[128, 28, 28]] * 2,
    }


# -- checkpoints -------------------------------------------------------------------------------------------------------


def weights(name: str) -> dict[str, tuple[int, ...]]:
    return load(name).weights()


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        (weights("resnet18"), []),
        ({**weights("resnet18"), "bn1.num_batches_tracked": ()}, []),
        (
            load("resnet18", classes=10).weights(),
            [("changed", "fc.weight", "1000x512", "10x512"), ("changed", "fc.bias", "1000", "10")],
        ),
        (
            {name: shape for name, shape in weights("resnet18").items() if name != "fc.bias"},
            [("removed", "fc.bias", "1000", "")],
        ),
        ({**weights("resnet18"), "extra.weight": (3, 4)}, [("added", "extra.weight", "", "3x4")]),
    ],
)
def test_changes_from_a_network_to_a_checkpoint(
    checkpoint: dict[str, tuple[int, ...]], expected: list[tuple[str, ...]]
) -> None:
    changes = diff_weights(load("resnet18"), checkpoint)
    assert [(change.kind, change.path, change.before, change.after) for change in changes] == expected


def test_renamed_and_missing_blocks_of_a_checkpoint() -> None:
    checkpoint = {
        name.replace("layer1.", "stage1."): shape
        for name, shape in weights("resnet34").items()
        if "layer1.2" not in name
    }
    changes = [(change.kind, change.path, change.times) for change in diff_weights(load("resnet34"), checkpoint)]
    assert ("renamed", "stage1.0-1.conv1.weight", 2) in changes
    assert ("removed", "layer1.2.conv1.weight", 1) in changes


def test_parameters_of_a_checkpoint_by_stage() -> None:
    checkpoint = {**weights("resnet34"), "odd.weight": (5,)}
    stages = {stage.name: stage for stage in diff_weight_stages(load("resnet18"), checkpoint)}
    assert stages["layer3"].parameters == (2_099_712, 6_822_400)
    assert stages["elsewhere"].parameters == (0, 5)
    assert stages["head"].macs == (None, None)
    assert sum(stage.parameters[1] or 0 for stage in stages.values()) == load("resnet34").parameters + 5


def test_the_command_compares_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.safetensors"
    save_file({name: np.zeros(shape, np.float32) for name, shape in weights("resnet34").items()}, path)
    done = run_here("diff", "resnet34", path)
    assert (done.returncode, done.stdout) == (0, f"{path} holds the weights of resnet34\n")
    done = run_here("diff", "resnet18", path)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert "+ layer3.2-5.conv1.weight 256x256x3x3 (4 times)" in lines
    assert "layer3 2,099,712 6,822,400 +4,722,688" in lines
    assert "MACs" not in done.stdout


def test_the_command_reports_equal_networks() -> None:
    done = run_here("diff", "resnet18", "resnet18.yaml")
    assert (done.returncode, done.stdout) == (0, "resnet18 and resnet18.yaml are the same network\n")
