"""The effect of each option on the tree of a network. tests/library/test_zoo.py compares outputs with timm's."""

from __future__ import annotations

from typing import Any

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
    stages = {stage.path for stage in network.stages}
    assert [feature.stride for feature in network.features() if feature.path in stages] == strides
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


@pytest.mark.parametrize("shortcut", ["none", "{s: scale}", "{s: norm}"])
def test_drop_path_drops_parallel_branches_beside_a_shortcut(shortcut: str) -> None:
    branch = f"{{combine: add, branches: [{{c: {{op: conv, out: in, kernel: 1}}}}, {shortcut}]}}"
    block = f"b: {{combine: none, branch: {{sum: {branch}}}}}"
    text = f"{HEAD}blocks: {{{block}}}\nstages: {{s: {{block: b, depth: 2}}}}\n"
    if "norm" in shortcut:
        with pytest.raises(SpecError, match="drop_path has no effect"):
            loads(text, drop_path=0.1)
    else:
        network = loads(text, drop_path=0.1)
        assert [leaf.path for leaf in network.leaves() if isinstance(leaf.op, DropPath)] == ["s.1.sum_drop_path"]


@pytest.mark.parametrize(
    ("name", "norm"),
    [("resnet18", "bn1"), ("resnet50", "bn2"), ("timm/regnety_002", "conv2.bn"), ("resnetv2_50", "norm3")],
)
def test_drop_block_follows_the_norm_of_the_first_wide_convolution(name: str, norm: str) -> None:
    network = load(name, drop_block=0.1)
    leaves = [leaf.path for leaf in network.leaves()]
    dropped = [leaf for leaf in network.leaves() if isinstance(leaf.op, DropBlock)]
    assert {leaf.path.startswith(tuple(stage.path for stage in network.stages[-2:])) for leaf in dropped} == {True}
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


HEAD = "name: s\ninput: [3, 64, 64]\n"
PATCHES = f"""{HEAD}
stem: {{conv1: {{op: conv, out: 8, kernel: 4, stride: 4}}}}
blocks:
  down:
    takes: {{out: required}}
    combine: none
    branch: {{p: {{op: max_pool, kernel: 2, stride: 2}}, c: {{op: conv, out: out, kernel: 1}}}}
stages: {{s1: {{block: down, depth: 1, out: 16}}, s2: {{block: down, depth: 1, out: 32}}}}
head: {{p: global_avg_pool, fc: {{op: linear, out: 5}}}}
"""
"""Pools of 2 x 2 pixels, whose maps would shrink without their strides."""

IN_STEM = f"{HEAD}stem: {{a: {{block: basic, out: 8}}, b: {{block: basic, out: 8}}}}\n"
"""Residual blocks that are not in a stage."""

CHAINS = f"{HEAD}blocks: {{b: {{combine: none, branch: {{n: norm}}}}}}\nstages: {{s: {{block: b, depth: 2}}}}\n"
ONE_BLOCK = f"{HEAD}stages: {{s: {{block: basic, depth: 1, out: 8}}}}\n"
NO_NORM = (
    f"{HEAD}blocks: {{b: {{branch: {{c: {{op: conv, out: 3, kernel: 1}}}}}}}}\nstages: {{s: {{block: b, depth: 2}}}}\n"
)
BACKBONE = f"{HEAD}stem: {{c: {{op: conv, out: 8, kernel: 1}}}}\nstages: {{s: {{block: basic, depth: 1, out: 8}}}}\n"


@pytest.mark.parametrize(
    ("text", "option", "value", "message"),
    [
        (IN_STEM, "drop_path", 0.5, "drop_path has no effect: no stage has a second residual block"),
        (CHAINS, "drop_path", 0.5, "drop_path has no effect: no stage has a second residual block"),
        (ONE_BLOCK, "drop_path", 0.5, "drop_path has no effect: no stage has a second residual block"),
        (IN_STEM, "drop_block", 0.5, "drop_block has no effect: no residual block of the last two stages has a norm"),
        (NO_NORM, "drop_block", 0.5, "drop_block has no effect: no residual block of the last two stages has a norm"),
        (IN_STEM, "zero_last_gamma", True, "zero_last_gamma has no effect: no residual block of a stage has a norm"),
        (NO_NORM, "zero_last_gamma", True, "zero_last_gamma has no effect: no residual block of a stage has a norm"),
        (BACKBONE, "dropout", 0.5, "dropout has no effect: the network has no classifier in its head"),
        (BACKBONE, "pool", "max", "pool has no effect: the network has no pool in its head"),
        (CHAINS, "output_stride", 3, "output_stride has no effect: no feature map shrinks by 3"),
        (IN_STEM, "norm", "layer_norm", None),
        (CHAINS, "act", "silu", "act has no effect: no layer of s refers to it"),
        (
            ONE_BLOCK.replace("8}", "3}"),
            "projection",
            "avg_pool_projection",
            "projection has no effect: no layer of s refers",
        ),
    ],
)
def test_an_option_without_effect_is_an_error_at_its_value(
    text: str, option: str, value: Any, message: str | None
) -> None:
    if message is None:
        assert loads(text, **{option: value}) != loads(text)
        return
    with pytest.raises(SpecError) as error:
        loads(text, **{option: value})
    (problem,) = error.value.problems
    assert problem.message.startswith(message)
    assert (problem.code, problem.span.source.name) == ("RS215", f"{option}={str(value).lower()}")


def test_the_option_of_the_spec_that_has_no_effect_is_marked() -> None:
    with pytest.raises(SpecError) as error:
        loads(f"{IN_STEM}options:\n  pool: as_written\n  drop_path: 0.5\n")
    assert [(problem.code, problem.span.line) for problem in error.value.problems] == [("RS215", 6)]


@pytest.mark.parametrize(("stride", "possible"), [(3, False), (64, False), (32, True), (2, True)])
def test_an_output_stride_must_be_one_that_the_network_reaches(stride: int, possible: bool) -> None:
    if possible:
        assert max(feature.stride for feature in load("resnet18", output_stride=stride).features()) == stride
        return
    with pytest.raises(SpecError) as error:
        load("resnet18", output_stride=stride)
    assert error.value.problems[0].help == "it can be 1, 2, 4, 8, 16 or 32"


@pytest.mark.parametrize(("stride", "size"), [(8, 7), (4, 15)])
def test_dilation_that_would_shrink_maps_is_an_error(stride: int, size: int) -> None:
    with pytest.raises(SpecError, match=f"{size} x {size} pixels") as error:
        loads(PATCHES, output_stride=stride)
    assert error.value.problems[0].code == "RS401"


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(2, 1, "same"), (1, 2, 1)])
def test_patches_without_their_stride_are_padded(stride: int, dilation: int, padding: str | int) -> None:
    patches = "{op: conv, out: 8, kernel: 2, stride: 2}"
    network = loads(f"{HEAD}stem: {{a: {patches}, b: {patches}}}\n", output_stride=stride)
    conv = op(network, "b")
    assert isinstance(conv, Conv)
    assert (conv.stride, conv.dilation, conv.padding) == (1, dilation, padding)
    assert network.part("b").output_shape[1:] == tuple(size // stride for size in network.input[1:])


@pytest.mark.parametrize("window", ["kernel: 4, stride: 2, padding: 1", "kernel: 2, stride: 2", "kernel: 3, stride: 2"])
@pytest.mark.parametrize("op", ["conv, out: 8", "standardized_conv, out: 8", "max_pool"])
def test_dilated_maps_are_as_large_as_the_stride_says_or_refused(window: str, op: str) -> None:
    text = f"{HEAD}stem: {{a: {{op: {op}, {window}}}, b: {{op: conv, out: 8, kernel: 3, padding: 1}}}}\n"
    plain, size = loads(text), loads(text).part("b").output_shape[1]
    try:
        dilated = loads(text, output_stride=1)
    except SpecError:
        assert "kernel: 3" not in window
    else:
        assert (dilated.part("b").output_shape[1], plain.features()[-1].stride) == (2 * size, 2)


def test_zero_last_gamma_needs_a_norm_with_a_scale() -> None:
    text = (
        f"{HEAD}layers: {{norm: {{op: batch_norm, affine: false}}}}\nstages: {{s: {{block: basic, depth: 1, out: 8}}}}"
    )
    with pytest.raises(SpecError, match="zero_last_gamma has no effect"):
        loads(text, zero_last_gamma=True)


@pytest.mark.parametrize("norm", ["evo_norm_s0", "filter_response_norm"])
def test_options_find_every_norm(norm: str) -> None:
    text = f"{HEAD}stages: {{s: {{block: basic, depth: 2, out: 32}}}}"
    network = loads(text, norm=norm, zero_last_gamma=True, drop_block=0.5)
    leaves = [leaf.path for leaf in network.leaves()]
    assert leaves[leaves.index("s.1.bn1") + 1] == "s.1.drop_block"
    assert [getattr(op(network, f"s.1.{path}"), "gamma") for path in ("bn1", "bn2")] == [1.0, 0.0]  # noqa: B009


def test_dropout_replaces_that_of_the_spec_before_flatten() -> None:
    pool = "{op: global_avg_pool, keepdims: true}"
    head = f"{{p: {pool}, d: {{op: dropout, rate: 0.2}}, f: flatten, c: {{op: linear, out: 5}}}}"
    network = loads(f"{ONE_BLOCK}head: {head}\n", dropout=0.5)
    assert [leaf.path for leaf in network.leaves()][-4:] == ["p", "f", "drop", "c"]


def test_dropout_does_not_take_the_path_of_another_part() -> None:
    with pytest.raises(SpecError, match="already has a part at drop"):
        loads(f"{HEAD}stem: {{drop: act}}\nhead: {{p: global_avg_pool, c: {{op: linear, out: 5}}}}\n", dropout=0.5)
