"""Others' names for layers: theirs exactly, both ways, for every bundled network."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from resnet_spec import load
from resnet_spec.checkpoints.naming.mapping import Place, layers, places, plain
from resnet_spec.checkpoints.naming.roles import roles
from resnet_spec.checkpoints.naming.tables import dialects, layouts
from resnet_spec.checkpoints.transfer.matching import spoken
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from shared.peer_recordings import state_dicts

PEERS = {"timm": "timm", "torchvision": "torchvision", "paddle": "paddle.vision", "paddleclas": "PaddleClas"}
"""The folders of bundled networks whose peers' names are recorded, and the registries that these are recorded under."""

SPOKEN = {
    ("paddle", "torchvision"): 13,
    ("paddleclas", "paddleclas"): 13,
    ("paddleclas", "paddleclas_regnet"): 12,
    ("paddleclas", "paddleclas_resnest"): 5,
    ("paddleclas", "paddleclas_wsl"): 4,
    ("paddleclas", "paddleclas_zoo"): 20,
    ("timm", "legacy_senet"): 9,
    ("timm", "timm_regnet"): 32,
    ("timm", "timm_resnetv2"): 20,
    ("timm", "torchvision"): 81,
    ("torchvision", "torchvision"): 10,
    ("torchvision", "torchvision_regnet"): 15,
}
"""For how many networks of a folder a dialect gives the names that the peer itself has, all of them, in their shapes."""


@lru_cache(8)
def network(spec: str) -> Network:
    return load(spec)


def found(spec: str, dialect: str | None, layout: str) -> dict[str, Place] | None:
    return places(layers(network(spec)), dialects()[dialect] if dialect else None, layouts()[layout])


def test_names_and_shapes_are_the_peers() -> None:
    """Worked out from the network's tree alone: were a role taken for another, they would not come out of it."""
    spoken_by: Counter[tuple[str, str]] = Counter()
    for spec in bundled.names():
        folder, _, name = spec.partition("/")
        peer = f"{PEERS.get(folder)}/{name}"
        if peer not in state_dicts():
            continue
        layout = "paddle" if folder.startswith("paddle") else "torch"
        for dialect in dialects().values():
            kept = found(spec, dialect.name, layout) if dialect.layout in (None, layout) else None
            if kept and {place.name: place.shape for place in kept.values()} == dict(state_dicts()[peer]):
                spoken_by[folder, dialect.name] += 1
    assert spoken_by == SPOKEN


@pytest.mark.parametrize(
    ("spec", "dialect", "layout", "names"),
    [
        (
            "resnet18",
            "linen",
            "linen",
            {
                "conv1.weight": "params/conv_init/kernel",
                "bn1.running_var": "batch_stats/bn_init/var",
                "layer2.0.conv2.weight": "params/ResNetBlock_2/Conv_1/kernel",
                "layer2.0.downsample.1.weight": "params/ResNetBlock_2/norm_proj/scale",
                "layer4.1.bn2.running_mean": "batch_stats/ResNetBlock_7/BatchNorm_1/mean",
                "fc.bias": "params/Dense_0/bias",
            },
        ),
        ("resnet50", "linen", "linen", {"layer2.0.conv3.weight": "params/BottleneckResNetBlock_3/Conv_2/kernel"}),
        (
            "resnet50",
            "keras",
            "keras",
            {
                "conv1.weight": "conv1_conv/kernel",
                "bn1.weight": "conv1_bn/gamma",
                "layer1.0.downsample.0.weight": "conv2_block1_0_conv/kernel",
                "layer4.2.bn3.running_var": "conv5_block3_3_bn/moving_variance",
                "fc.weight": "predictions/kernel",
            },
        ),
        (
            "preact_resnet18_cifar",
            "keras_v2",
            "keras",
            {"layer2.0.bn1.bias": "conv3_block1_preact_bn/beta", "bn.weight": "post_bn/gamma"},
        ),
        (
            "resnet34",
            "kuangliu",
            "torch",
            {"layer2.0.downsample.1.bias": "layer2.0.shortcut.1.bias", "fc.weight": "linear.weight"},
        ),
        (
            "preact_resnet18_cifar",
            "wide_resnet",
            "torch",
            {
                "layer1.1.conv2.weight": "block1.layer.1.conv2.weight",
                "layer2.0.downsample.weight": "block2.layer.0.convShortcut.weight",
                "bn.weight": "bn1.weight",
            },
        ),
        ("resnet18", None, "nnx", {"layer1.0.bn1.weight": "layer1.0.bn1.scale.value"}),
    ],
)
def test_names_are_those_of_the_peers_sources(
    spec: str, dialect: str | None, layout: str, names: dict[str, str]
) -> None:
    kept = found(spec, dialect, layout)
    assert kept is not None
    assert {name: kept[name].name for name in names} == names


@pytest.mark.parametrize("spec", bundled.names())
def test_a_mapping_is_a_bijection(spec: str) -> None:
    held, weights = layers(network(spec)), network(spec).weights()
    own = [(None, layout) for layout in layouts().values()]
    for dialect, layout in [*own, *((one, layouts()[one.layout or "torch"]) for one in dialects().values())]:
        kept = places(held, dialect, layout)
        if kept is None:
            assert dialect is not None  # its own names every network has
            continue
        assert kept.keys() == weights.keys()
        assert len({plain(place.name) for place in kept.values()}) == len(weights)
        for name, place in kept.items():
            assert sorted(place.axes) == list(range(len(place.between)))
            assert math.prod(place.between) == math.prod(weights[name])


@pytest.mark.parametrize("layout", layouts())
def test_arrays_come_back_bit_for_bit(layout: str) -> None:
    """Axes of many lengths, those that are copied in blocks and those that are not."""
    kept = found("timm/ecaresnet26t", None, layout)
    assert kept is not None
    for name, shape in network("timm/ecaresnet26t").weights().items():
        if name.startswith(("conv1", "layer1.0", "layer1.1.se", "fc")):
            array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            there = kept[name].kept(array)
            assert there.shape == kept[name].shape
            assert there.flags.c_contiguous
            assert np.array_equal(there, array.transpose(kept[name].axes))
            assert kept[name].canonical(there).tobytes() == array.tobytes()


def test_a_matrix_and_a_1x1_convolution_take_each_others_place() -> None:
    gate = found("timm/seresnet50", "paddleclas_zoo", "paddle")
    head = found("preact_resnet18_cifar", "timm_resnetv2", "torch")
    assert gate is not None
    assert head is not None
    matrix = np.arange(64 * 4).reshape(4, 64, 1, 1)
    place = Place("a", matrix.shape, (4, 64), (1, 0))
    assert gate["layer1.0.se.fc1.weight"].shape == (256, 16)
    assert head["fc.weight"].shape == (10, 512, 1, 1)
    assert np.array_equal(place.kept(matrix), matrix[:, :, 0, 0].T)
    assert np.array_equal(place.canonical(place.kept(matrix)), matrix)


def test_roles_tell_the_layers_of_a_network_apart() -> None:
    assert all(
        len(set(roles(network(spec)).values())) == len(roles(network(spec)))
        for spec in ["timm/resnet50d", "resnet34", "timm/resnest50d", "timm/skresnet34", "timm/res2net50d"]
    )


@pytest.mark.parametrize(
    ("names", "dialect", "layout"),
    [
        (["blocks.0.conv0.conv.weight", "blocks.0.conv0.bn._mean"], "paddleclas", "paddle"),
        (["bb_0_0.conv0._conv.weight"], "paddleclas_zoo", "paddle"),
        (["params.conv_init.kernel"], "linen", "linen"),
        (["conv2_block1_1_conv.kernel"], "keras", "keras"),
        (["stages.0.blocks.0.norm1.weight"], "timm_resnetv2", "torch"),
        (["layer0.conv1.weight"], "legacy_senet", "torch"),
        (["block1.layer.0.conv1.weight"], "wide_resnet", "torch"),
        (["layer2.0.shortcut.0.weight"], "kuangliu", "torch"),
        (["layer1.0.conv1.weight"], "torchvision", "torch"),
        (["s1.b1.conv1.bn.weight"], "timm_regnet", "torch"),
        (["trunk_output.block1.block1-0.f.a.0.weight"], "torchvision_regnet", "torch"),
        (["s1_b1.conv0._conv.weight"], "paddleclas_regnet", "paddle"),
        (["_conv1_0._conv0._bn.weight"], "paddleclas_wsl", "paddle"),
        (["layer1.layer1_bottleneck_0.conv4.weight"], "paddleclas_resnest", "paddle"),
        (["conv1.kernel"], None, "nnx"),
    ],
)
def test_a_dialect_is_heard_in_a_few_names(names: list[str], dialect: str | None, layout: str) -> None:
    heard = spoken(dict.fromkeys(names, ""), "torch")
    assert (dialect, layout) in [(one and one.name, other.name) for one, other in heard]
    assert len({one and one.name for one, _ in heard} - {None, dialect}) == 0
