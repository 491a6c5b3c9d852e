"""The effect of each option on the tree of a network. tests/library/test_zoo.py compares outputs with timm's."""

from __future__ import annotations

import pytest

from resnet_spec import Network, SpecError, load, loads
from resnet_spec.network.parts import Leaf, Residual
from resnet_spec.ops import AvgPool, BatchNorm, Conv, DropBlock, Dropout, DropPath, Silu, ZeroPad

SMALL = {"input": (3, 64, 64), "classes": 5}


def op(network: Network, path: str) -> object:
    part = network.part(path)
    assert isinstance(part, Leaf)
    return part.op


def test_default_options_change_nothing() -> None:
    assert load("resnet18", drop_path=0.0, pool="as_written", output_stride=0) == load("resnet18")


@pytest.mark.parametrize(("stride", "strides"), [(32, [4, 8, 16, 32]), (16, [4, 8, 16, 16]), (8, [4, 8, 8, 8])])
def test_output_stride_limits_the_stride_of_stages(stride: int, strides: list[int]) -> None:
    network = load("resnet50", output_stride=stride)
    assert [feature.stride for feature in network.features() if feature.path in network.stages] == strides
    assert network.part("layer4").output_shape[1] == 224 // strides[-1]


def test_strided_convolution_keeps_the_dilation_before_it() -> None:
    network = load("resnet50", output_stride=8)
    first, second = op(network, "layer4.0.conv2"), op(network, "layer4.1.conv2")
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    assert (first.stride, first.dilation, first.padding) == (1, 2, 2)
    assert (second.dilation, second.padding) == (4, 4)


def test_pooling_of_a_projection_loses_its_stride() -> None:
    network = load("resnet50d", output_stride=16)
    assert op(network, "layer4.0.downsample.0.pad") == ZeroPad(bottom=1, right=1)
    assert op(network, "layer4.0.downsample.0.pool") == AvgPool(2)


def test_dilation_does_not_change_weights() -> None:
    assert load("resnet50d", output_stride=8).weights() == load("resnet50d").weights()


def test_drop_path_rate_grows_linearly_over_all_blocks() -> None:
    network = load("resnet18", drop_path=0.7)
    rates = {leaf.path: leaf.op.rate for leaf in network.leaves() if isinstance(leaf.op, DropPath)}
    assert list(rates) == [f"layer{stage}.{block}.drop_path" for stage in (1, 2, 3, 4) for block in (0, 1)][1:]
    assert list(rates.values()) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_drop_path_is_last_in_the_branch() -> None:
    block = load("seresnet50", drop_path=0.1).part("layer2.0")
    assert isinstance(block, Residual)
    assert [part.path for part in block.branch[-2:]] == ["layer2.0.se", "layer2.0.drop_path"]


@pytest.mark.parametrize(
    ("name", "norm"),
    [("resnet18", "bn1"), ("resnet50", "bn2"), ("timm/regnety_002", "conv2.bn"), ("resnetv2_50", "norm3")],
)
def test_drop_block_follows_the_norm_of_the_first_wide_convolution(name: str, norm: str) -> None:
    network = load(name, drop_block=0.1)
    leaves = [leaf.path for leaf in network.leaves()]
    dropped = [leaf for leaf in network.leaves() if isinstance(leaf.op, DropBlock)]
    assert {leaf.path.startswith(network.stages[-2:]) for leaf in dropped} == {True}
    assert leaves[leaves.index(dropped[0].path) - 1].endswith(f".{norm}")
    assert [(leaf.op.size, leaf.op.scale) for leaf in (dropped[0], dropped[-1])] == [(5, 0.25), (3, 1.0)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "path"), [("resnet18", "drop"), ("resnetv2_50", "head.drop"), ("regnety_002", "head.drop")]
)
def test_dropout_precedes_the_classifier(name: str, path: str) -> None:
    network = load(name, dropout=0.25)
    leaves = list(network.leaves())
    (index,) = (index for index, leaf in enumerate(leaves) if isinstance(leaf.op, Dropout))
    assert (leaves[index].path, leaves[index].op) == (path, Dropout(0.25))
    assert leaves[index + 1].path.endswith("fc")


def test_dropout_replaces_that_of_the_spec() -> None:
    rates = [leaf.op.rate for leaf in load("legacy_seresnet18", dropout=0.5).leaves() if isinstance(leaf.op, Dropout)]
    assert rates == [0.5]


def test_zero_last_gamma_changes_only_the_branch() -> None:
    network = load("seresnet50", zero_last_gamma=True)
    zero = [leaf.path for leaf in network.leaves() if isinstance(leaf.op, BatchNorm) and leaf.op.gamma == 0]
    assert len(zero) == 16
    assert all(path.endswith(".bn3") for path in zero)


@pytest.mark.parametrize(("pool", "features"), [("avg", 512), ("max", 512), ("avg_max", 512), ("avg_max_concat", 1024)])
def test_pool_changes_the_pooling_of_the_head(pool: str, features: int) -> None:
    assert load("resnet18", pool=pool).weights()["fc.weight"] == (1000, features)


def test_name_that_layers_refer_to_can_be_set() -> None:
    assert isinstance(op(load("resnet18", act="silu"), "layer1.0.relu1"), Silu)


def test_caller_overrides_options_of_the_spec() -> None:
    text = "{name: s, input: [3, 32, 32], options: {drop_path: 0.5}, stages: {a: {block: basic, depth: 2, out: 4}}}"
    assert op(loads(text), "a.1.drop_path") == DropPath(0.5)
    assert "a.1.drop_path" not in {leaf.path for leaf in loads(text, drop_path=0).leaves()}


def test_argument_of_the_spec_takes_precedence_over_an_option() -> None:
    text = "{name: s, input: [3, 32, 32], takes: {pool: 3}, stem: {a: {op: conv, out: pool, kernel: 1}}}"
    assert loads(text, pool=7).output_shape == (7, 32, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_stide": 8}, "resnet18 does not take 'output_stide'"),
        ({"drop_path": 1.5}, "expected less than 1, got 1.5"),
        ({"pool": "median"}, "expected as_written, avg, max, avg_max or avg_max_concat, got 'median'"),
        ({"output_stride": "small"}, "expected an integer, got 'small'"),
    ],
)
def test_wrong_settings_raise_errors(settings: dict[str, float | str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load("resnet18", **settings)  # type: ignore[arg-type]


def test_option_that_does_not_apply_raises_an_error() -> None:
    with pytest.raises(SpecError, match="s cannot have these options: the network has no pool in its head"):
        loads("{name: s, input: [3, 32, 32], stem: {a: {op: conv, out: 4, kernel: 1}}}", pool="max")
