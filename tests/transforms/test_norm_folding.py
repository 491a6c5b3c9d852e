"""A network with folded norms computes the same with fewer operations, and can be written as a spec."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec import build, load, loads, run
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.ops import BatchNorm, Conv, op_name
from resnet_spec.parity.case import load_for_comparison
from resnet_spec.transforms.feature_outputs import with_feature_outputs
from resnet_spec.transforms.norm_folding import fold_norms
from resnet_spec.transforms.width_reduction import reduce_width
from resnet_spec.weights.canonical import Array, comparison_weights


def outputs(network: Network, weights: dict[str, Array], shape: tuple[int, ...]) -> Any:
    images = np.random.default_rng(0).standard_normal((2, *shape))
    return run(build(network, backend="numpy", weights=weights), images)


def difference(network: Network) -> float:
    """Return the largest difference between the outputs with and without folding, relative to the largest output."""
    weights = comparison_weights(network)
    original = outputs(network, weights, network.input)
    folded = outputs(*fold_norms(network, weights), network.input)
    return float(abs(folded - original).max() / abs(original).max())


SAMPLE = [
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "preact_resnet18_cifar",
    "resnet18_biased_shortcut",
    "timm/resnet50d",
    "timm/seresnet50",
    "timm/resnetaa50",
    "timm/resnetblur50",
    "timm/resnet50_gn",
    "timm/resnetv2_50x1_bit",
    "timm/res2net50_26w_4s",
    "timm/resnest50d",
    "timm/skresnet18",
    "timm/regnetz_005",
]
"""Networks that are folded each time, of different kinds; all others are with ``pytest --sweep``."""


@pytest.mark.parametrize(
    "bundled_name",
    [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.sweep) for name in bundled.names()],
)
@pytest.mark.share(3)
def test_folded_network_computes_the_same(bundled_name: str) -> None:
    network = reduce_width(load_for_comparison(bundled_name))  # folding depends on what follows what, not on the width
    assert difference(network) < 1e-12


@pytest.mark.parametrize("bundled_name", ["resnet50", "resnext50_32x4d", "timm/resnet50d", "timm/seresnet50"])
def test_every_batch_norm_after_a_convolution_is_folded(bundled_name: str) -> None:
    network = reduce_width(load(bundled_name))
    folded, _ = fold_norms(network, comparison_weights(network))
    assert not any(isinstance(leaf.op, BatchNorm) for leaf in folded.leaves())


def test_folded_network_can_be_written_and_read() -> None:
    network = load("preact_resnet18_cifar")
    folded, weights = fold_norms(network, comparison_weights(network))
    assert loads(to_yaml(folded)) == folded
    assert {name: array.shape for name, array in weights.items()} == folded.weights()


def spec(layers: str, blocks: str = "") -> Network:
    return loads(f"{{name: s, input: [4, 9, 8], blocks: {{{blocks}}}, stem: {{{layers}}}}}")


CONV1 = "{op: conv, out: 6, kernel: 1}"
CONV3 = "{op: conv, out: 4, kernel: 3, padding: 1}"
POOL = "{op: avg_pool, kernel: 3, stride: 2, padding: 1}"
COUNTED = "{op: avg_pool, kernel: 3, stride: 2, padding: 1, count_padding: true}"
GROUPED = "{op: conv, out: 6, kernel: 3, groups: 2, bias: true}"
SIDES = f"branch: {{a: {CONV3}}}, shortcut: {{c: {CONV3}}}"
SQUEEZE = "p: {op: global_avg_pool, keepdims: true}"
SCALED = "{op: standardized_conv, out: 6, kernel: 3, scaled: true, factor: 1.7, bias: true}"
GATED = "conv conv batch_norm"
PLAIN = f"branch: {{a: {CONV3}}}"


@pytest.mark.parametrize(
    ("layers", "blocks", "remaining"),
    [
        (f"c: {CONV1}, n: batch_norm", "", "conv"),
        (f"c: {CONV1}, n: batch_norm, m: {{op: batch_norm, affine: false}}", "", "conv"),
        ("n: {op: batch_norm, affine: false}, m: batch_norm, r: relu", "", "batch_norm relu"),
        ("n: {op: group_norm, groups: 2}, m: batch_norm", "", "group_norm"),
        ("n: {op: group_norm, size: 2, affine: false}, m: batch_norm", "", "group_norm"),
        ("n: {op: layer_norm, bias: false}, m: batch_norm", "", "layer_norm"),
        (f"c: {SCALED}, n: batch_norm", "", "conv"),
        (f"c: {CONV1}, n: batch_norm, s: scale, m: batch_norm", "", "conv scale batch_norm"),
        (f"c: {CONV3}, p: {{combine: multiply, branches: [none, {{d: {CONV3}}}]}}, n: batch_norm", "", GATED),
        ("b: {block: one}", f"one: {{combine: concat, {PLAIN}, after: {{n: batch_norm}}}}", "conv batch_norm"),
        (f"c: {CONV1}, d: {{op: dropout, rate: 0.5}}, i: identity, n: batch_norm", "", "conv"),
        (f"c: {CONV1}, r: relu, n: batch_norm", "", "conv relu batch_norm"),
        (f"c: {CONV1}, a: {{b: {POOL}}}, e: {{n: batch_norm, r: relu}}", "", "conv avg_pool relu"),
        (f"c: {CONV1}, a: {COUNTED}, n: batch_norm", "", "conv avg_pool batch_norm"),
        (f"n: batch_norm, c: {CONV1}", "", "conv"),
        (f"n: batch_norm, c: {GROUPED}", "", "conv"),
        (f"n: batch_norm, c: {CONV3}", "", "batch_norm conv"),
        (f"n: batch_norm, m: batch_norm, c: {CONV1}", "", "conv"),
        ("n: batch_norm, p: global_avg_pool, c: {op: linear, out: 5}", "", "global_avg_pool linear"),
        ("n: batch_norm, p: flatten, c: {op: linear, out: 5, bias: false}", "", "flatten linear"),
        ("b: {block: one}", f"one: {{{PLAIN}, after: {{n: batch_norm, r: relu}}}}", "conv batch_norm relu"),
        ("b: {block: one}", f"one: {{project: always, {SIDES}, after: {{n: batch_norm, r: relu}}}}", "conv conv relu"),
        ("b: {block: one}, n: batch_norm, r: relu", f"one: {{project: always, {SIDES}}}", "conv conv relu"),
        ("b: {block: one}, n: batch_norm", f"one: {{{PLAIN}}}", "conv batch_norm"),
        ("n: batch_norm, b: {block: one}", f"one: {{{PLAIN}}}", "batch_norm conv"),
        (
            f"c: {CONV3}, b: {{block: one}}",
            f"one: {{project: always, before: {{n: batch_norm}}, {SIDES}}}",
            "conv conv conv",
        ),
        (f"c: {CONV3}, b: {{block: one}}", f"one: {{before: {{n: batch_norm}}, {PLAIN}}}", "conv batch_norm conv"),
        (
            "b: {block: one}",
            f"one: {{before: {{n: batch_norm}}, branch: {{a: {{op: conv, out: 4, kernel: 1}}, p: {CONV3}}}}}",
            "conv conv",
        ),
        (
            f"c: {CONV1}, b: {{block: one}}",
            f"one: {{project: always, branch: {{n: batch_norm, a: {CONV3}}}, shortcut: {{s: {CONV3}}}}}",
            "conv batch_norm conv conv",
        ),
        (
            "n: batch_norm, b: {block: one}",
            f"one: {{project: always, branch: {{a: {CONV1}}}, shortcut: {{s: {CONV1}}}}}",
            "conv conv",
        ),
        (
            "c: relu, b: {block: one}",
            f"one: {{combine: multiply, branch: {{{SQUEEZE}, i: identity}}, after: {{n: batch_norm}}}}",
            "relu global_avg_pool batch_norm",
        ),
        (
            "b: {block: one}",
            f"one: {{project: always, branch: {{a: {GROUPED}}}, shortcut: {{s: {GROUPED}}}, after: {{n: batch_norm}}}}",
            "conv conv",
        ),
        (
            "b: {block: one}",
            f"one: {{project: always, before: {{r: relu}}, branch: {{a: {CONV3}}}, shortcut: {{i: identity}}}}",
            "relu conv",
        ),
        ("b: {block: one}", "one: {branch: {i: identity}, after: {d: {op: dropout, rate: 0.5}}}", "identity"),
        ("i: identity", "", "identity"),
    ],
)
def test_remaining_operations(layers: str, blocks: str, remaining: str) -> None:
    network = spec(layers, blocks)
    folded, _ = fold_norms(network, comparison_weights(network))
    assert " ".join(op_name(leaf.op) for leaf in folded.leaves()) == remaining
    assert difference(network) < 1e-12
    assert loads(to_yaml(folded)) == folded


STANDARD = "{op: standardized_conv, out: 4, kernel: 3}"
PATHS = (
    "{combine: add, branches: "
    "[{p: {op: conv, out: 4, kernel: 1}, n: batch_norm}, {m: batch_norm}, {d: {op: drop_path, rate: 0.5}}]}"
)


@pytest.mark.parametrize(
    ("layers", "remaining"),
    [
        (f"c: {STANDARD}, n: batch_norm", "conv"),
        ("b: {op: blur_pool, stride: 2}, r: relu, n: batch_norm", "blur_pool relu batch_norm"),
        (f"c: {CONV1}, b: {{op: blur_pool, stride: 2}}, n: batch_norm", "conv blur_pool"),
        (f"w: {PATHS}", "conv batch_norm identity"),
        (f"w: {PATHS}, e: batch_norm", "conv batch_norm identity batch_norm"),
        ("d: {op: drop_path, rate: 0.5}, e: {op: drop_block, rate: 0.5}, r: relu", "relu"),
    ],
)
def test_remaining_operations_of_rarer_networks(layers: str, remaining: str) -> None:
    network = spec(layers)
    folded, _ = fold_norms(network, comparison_weights(network))
    assert " ".join(op_name(leaf.op) for leaf in folded.leaves()) == remaining
    assert difference(network) < 1e-12
    assert loads(to_yaml(folded)) == folded


@pytest.mark.parametrize(
    ("layers", "requested", "remaining"),
    [
        (f"c: {CONV1}, n: batch_norm, r: relu", ["c", "r"], "conv batch_norm relu"),
        (f"c: {CONV1}, n: batch_norm, r: relu", ["n", "r"], "conv identity relu"),
        (f"n: batch_norm, c: {CONV1}, r: relu", ["n", "r"], "batch_norm conv relu"),
        (f"n: batch_norm, c: {CONV1}, r: relu", ["c", "r"], "conv relu"),
        (f"s: {{c: {CONV1}}}, t: {{n: batch_norm}}, r: relu", ["s", "r"], "conv batch_norm relu"),
        (f"s: {{c: {CONV1}}}, t: {{n: batch_norm}}, r: relu", ["t", "r"], "conv identity relu"),
        (f"t: {{r: relu, n: batch_norm}}, c: {CONV1}", ["t", "c"], "relu batch_norm conv"),
    ],
)
def test_feature_outputs_do_not_change(layers: str, requested: list[str], remaining: str) -> None:
    network = with_feature_outputs(spec(layers), requested)
    weights = comparison_weights(network)
    folded, folded_weights = fold_norms(network, weights)
    assert " ".join(op_name(leaf.op) for leaf in folded.leaves()) == remaining
    before, after = outputs(network, weights, (4, 9, 8)), outputs(folded, folded_weights, (4, 9, 8))
    assert len(before) == len(after) == 2
    assert all(np.allclose(x, y, rtol=0, atol=1e-12) for x, y in zip(before, after, strict=True))


def test_weights_keep_their_type_and_are_rounded_once() -> None:
    network = reduce_width(load("resnet18", input=(3, 32, 32)))
    single = {name: array.astype("float32") for name, array in comparison_weights(network).items()}
    _, folded = fold_norms(network, single)
    _, exact = fold_norms(network, {name: array.astype("float64") for name, array in single.items()})
    assert all(np.array_equal(folded[name], exact[name].astype("float32")) for name in exact)


def test_argument_is_not_modified() -> None:
    network = reduce_width(load("resnet18"))
    weights = comparison_weights(network)
    fold_norms(network, weights)
    assert all(np.array_equal(array, weights[name]) for name, array in comparison_weights(network).items())


def test_convolutions_get_a_bias() -> None:
    folded, _ = fold_norms(network := reduce_width(load("resnet18")), comparison_weights(network))
    assert all(leaf.op.bias for leaf in folded.leaves() if isinstance(leaf.op, Conv))
