"""Counts that speed depends on: nothing is done twice, and work grows in proportion to the network."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, dump, load, loads
from shared.frameworks import required
from shared.paths import ROOT

SMALL: dict[str, Any] = {"input": (3, 32, 32), "classes": 5}


def calls(text: str) -> int:
    """How many functions are called to load a spec."""
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        loads(text)
    finally:
        sys.setprofile(None)
    return count


def deep(blocks: int) -> str:
    return f"{{name: deep, input: [3, 8, 8], stages: {{a: {{block: basic, depth: {blocks}, out: 8}}}}}}"


def test_loading_takes_work_in_proportion_to_the_network() -> None:
    calls(deep(1))  # some is done once
    few, more, many = calls(deep(10)), calls(deep(110)), calls(deep(1110))
    assert many - more < 10.5 * (more - few)


def test_torch_draws_nothing_itself() -> None:
    required("torch")
    import torch

    before = torch.get_rng_state()
    build("resnet18", backend="torch", **SMALL)
    assert torch.equal(torch.get_rng_state(), before)


def test_paddle_draws_nothing_itself() -> None:
    required("paddle")
    import paddle

    paddle.seed(0)
    wanted = paddle.rand([1])
    paddle.seed(0)
    build("resnet18", backend="paddle", **SMALL)
    assert paddle.rand([1]) == wanted


def test_flax_draws_nothing_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    required("flax")
    import jax

    def refused(*arguments: object, **named: object) -> None:
        raise AssertionError("drawn")

    for name in ("key", "split", "normal", "truncated_normal", "uniform", "bits"):
        monkeypatch.setattr(jax.random, name, refused)
    model = build("resnet18", backend="flax", **SMALL)
    assert model.network.parameters == load("resnet18", **SMALL).parameters


@pytest.mark.parametrize("way", ["nnx.jit of trees", "nnx.jit_partial"])
def test_flax_trains_the_same_without_nnx_jits_way_through_the_modules(way: str) -> None:
    required("flax")
    import jax.numpy as jnp
    from flax import nnx

    def step(model: Any, x: Any) -> Any:
        return nnx.value_and_grad(lambda model: jnp.mean(model(x) ** 2))(model)[0]

    network = loads("{name: s, input: [3, 8, 8], stages: {a: {block: basic, depth: 1, out: 4, stride: 2}}}")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3), np.float32))
    one, other = (build(network, backend="flax") for _ in range(2))
    one.train(), other.train()
    wanted = nnx.jit(step)(one, x)
    if way == "nnx.jit_partial":
        given = nnx.jit_partial(step, other, graph=False)(x)
    else:
        given = nnx.jit(step, graph=False)(other, x)
    assert given == wanted
    before = build(network, backend="flax")
    moved = dump(other)["a.0.bn1.running_mean"]
    assert np.array_equal(moved, dump(one)["a.0.bn1.running_mean"])
    assert not np.array_equal(moved, dump(before)["a.0.bn1.running_mean"])


@pytest.mark.parametrize(("table", "page"), [("readme", "README.md"), ("all", "docs/reference/measurements.md")])
def test_a_page_has_the_table_that_the_benchmarks_print(table: str, page: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/run.py"), "--table", table]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert printed in (ROOT / page).read_text(encoding="utf-8")


def test_measurements_say_on_what_they_were_made() -> None:
    held = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    assert {"processor", "cores", "torch", "paddlepaddle", "jax", "flax"} <= set(held["machine"])
    assert {record["framework"] for record in held["records"]} == {"core", "numpy", "torch", "paddle", "flax"}
