"""Test that the attributes of the frameworks' modules are reserved names, and that no published checkpoint uses one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from resnet_spec import SpecError, build, dump, loads, run
from resnet_spec.language.reserved_names import RESERVED, why_reserved
from shared.frameworks import required
from shared.peer_recordings import peer_state_dicts

HOLDERS = """
name: holders
input: [4, 12, 12]
blocks:
  mine: {before: {zz1: norm}, branch: {zz2.zz3: norm, zz2.zz4: act}, after: {zz2.zz5: act, zz6: [norm]}}
  beside:
    branch: {zz19: {branches: [{zz20: norm}, {zz21: [act]}, none], combine: mean}, zz22: act}
    combine: none
stem: {zz7.zz8: {op: conv, out: 4, kernel: 1}, zz9: {zz1: norm, zz2: act}, zz10: {zz11.zz12: norm, zz13: act}}
stages: {zz14: {block: mine, depth: 2}, zz15: {block: [mine, beside], depth: 2, as: "zz16.{index}"}}
head: {zz17: global_avg_pool, zz18: {op: linear, out: 4}}
"""
"""A network with every kind of module that holds others, under plain and dotted names, in lists and in blocks."""


def holders(backend: str, model: Any) -> Iterator[Any]:
    """Yield the modules of a model that hold others."""
    match backend:
        case "torch":
            yield from (module for module in model.modules() if module._modules)
        case "paddle":
            yield from (layer for layer in [model, *model.sublayers()] if layer._sub_layers)
        case "flax":
            from flax import nnx

            for _, module in nnx.iter_modules(model):
                if any(isinstance(held, nnx.Module) for held in vars(module).values()):
                    yield module


@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_attributes_of_modules_are_reserved(name: str) -> None:
    required(name)
    model = build(loads(HOLDERS), backend=name)
    modules = list(holders(name, model))
    assert len(modules) >= 8
    attributes = {attribute for module in modules for attribute in dir(module)}
    layers = {attribute for attribute in attributes if attribute.startswith("zz") or attribute.isdecimal()}
    assert {attribute for attribute in attributes - layers if not why_reserved(attribute)} == set()


@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_dotted_names_in_two_sections_may_share_a_prefix(name: str) -> None:
    """The framework computes the same output as the NumPy reference."""
    required(name)
    network, images = loads(HOLDERS), np.random.default_rng(0).standard_normal((2, 4, 12, 12))
    weights = dump(build(network, backend="numpy", seed=1))
    expected, output = (
        run(build(network, backend=backend, weights=weights, dtype="float64"), images) for backend in ("numpy", name)
    )
    assert np.abs(output - expected).max() < 1e-12


@pytest.mark.parametrize(
    "word", ["train", "eval", "forward", "weight", "parameters", "network", "state_dict", "half", "to", "_parts"]
)
@pytest.mark.parametrize("place", ["stem: {WORD: act}", "stem: {a.WORD.b: act}", "stem: {a: {WORD: act}}"])
def test_a_reserved_name_is_an_error_at_its_place(word: str, place: str) -> None:
    text = f"name: my\ninput: [3, 8, 8]\n{place.replace('WORD', word)}\n"
    with pytest.raises(SpecError) as error:
        loads(text)
    (problem,) = error.value.problems
    assert (problem.code, problem.span.line) == ("RS213", 3)
    assert f"{word!r} is an attribute of" in problem.message


def test_no_checkpoint_uses_a_reserved_name() -> None:
    """Otherwise a spec could not describe the network of that checkpoint."""
    used = {part for rows in peer_state_dicts().values() for name, _ in rows for part in name.split(".")[:-1]}
    assert used & RESERVED.keys() == set()


def test_names_with_two_leading_underscores_are_reserved() -> None:
    assert all(why_reserved(name) for name, _ in inspect.getmembers(object()))
