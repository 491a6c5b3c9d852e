"""A network that is written as a spec reads as the same network, and shapes can be inferred again for another input."""

from __future__ import annotations

import itertools

import pytest

from resnet_spec import load, loads
from resnet_spec.library import bundled
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.ops import ShapeError
from shared.bundled_networks import bundled_network
from shared.sampling import one_in


@pytest.mark.parametrize("name", one_in(20, bundled.names()))
@pytest.mark.share(2)
def test_written_network_reads_as_the_same_network(name: str) -> None:
    network = bundled_network(name)
    read = loads(to_yaml(network))
    assert read == network
    assert list(read.weights().items()) == list(network.weights().items())


def test_projection_that_keeps_the_shape_is_written() -> None:
    spec = "{name: s, input: [4, 8, 8], stages: {a: {block: basic, depth: 2, out: 4, project: always}}}"
    assert loads(to_yaml(loads(spec))) == loads(spec)


@pytest.mark.parametrize("order", [*itertools.permutations(["before", "branch", "after"])])
def test_order_of_a_chain_s_sections_is_written(order: tuple[str, ...]) -> None:
    sections = {"before": "{b: norm, c: act}", "branch": "{d: norm}", "after": "{e: norm, f.g: norm}"}
    block = ", ".join(f"{role}: {sections[role]}" for role in order)
    network = loads(
        f"{{name: s, input: [4, 8, 8], blocks: {{x: {{combine: none, {block}}}}}, stem: {{a: {{block: x}}}}}}"
    )
    read = loads(to_yaml(network))
    assert read == network
    assert list(read.weights()) == list(network.weights())


@pytest.mark.parametrize(
    "block",
    [
        "{branch: {}}",
        "{branch: {}, shortcut: {pool: {op: avg_pool, kernel: 2, stride: 2}}}",
        "{before: {a: relu}, branch: {}}",
        "{branch: {}, after: {a: relu}, project: always, shortcut: {b: relu}, reads: input}",
        "{after: {a: relu}, branch: {}, combine: multiply}",
        "{combine: none, branch: {}}",
        "{combine: none, branch: {}, after: {a: relu}}",
    ],
)
def test_a_branch_of_no_layers_is_written(block: str) -> None:
    network = loads(f"{{name: n, input: [3, 8, 8], blocks: {{b: {block}}}, stem: {{a: {{block: b}}, c: sigmoid}}}}")
    assert loads(to_yaml(network)).parts == network.parts


def test_numbers_are_written_in_short_form() -> None:
    spec = (
        "{name: s, input: [4, 8, 8], stem: {a: {op: batch_norm, epsilon: 1e-3, gamma: 0}, b: {op: dropout, rate: 0.1}}}"
    )
    assert "epsilon: 0.001, gamma: 0.0}" in to_yaml(loads(spec))


@pytest.mark.parametrize("name", ["resnet50d", "seresnet50", "preact_resnet18_cifar"])
def test_shapes_are_inferred_for_another_input(name: str) -> None:
    assert infer_shapes(load(name), (3, 72, 56)) == load(name, input=(3, 72, 56))


def test_input_that_is_too_small_raises_an_error() -> None:
    network = loads("{name: s, input: [4, 8, 8], stem: {a: {op: conv, out: 4, kernel: 5}}}")
    with pytest.raises(ShapeError, match="the window spans 5 pixels, but the map has 4"):
        infer_shapes(network, (4, 4, 8))


@pytest.mark.parametrize(
    "layer",
    [
        "{combine: concat, branches: [{conv: {op: conv, out: 2, kernel: 1}}, none]}",
        "{collect: {conv: {op: conv, out: 2, kernel: 1}, other: {op: conv, out: 2, kernel: 1}}}",
        "{collect: {one: {combine: concat, branches: [{conv: {op: conv, out: 2, kernel: 1}, act: act}]}}}",
    ],
)
def test_parts_of_branches_whose_name_has_dots_keep_their_names(layer: str) -> None:
    network = loads(f"{{name: n, input: [3, 8, 8], layers: {{both: {layer}}}, stem: {{a: {{4.paths: both}}}}}}")
    assert "a.4.conv.weight" in network.weights()
    assert loads(to_yaml(network)).parts == network.parts
