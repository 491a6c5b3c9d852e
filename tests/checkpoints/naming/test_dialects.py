"""Dialects: the names and shapes are exactly those of the other libraries, and mappings can be inverted."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from resnet_spec.checkpoints.naming.mapping import Layer, WeightMapping, list_layers, map_weights, normalize_name
from resnet_spec.checkpoints.naming.roles import find_roles
from resnet_spec.checkpoints.naming.tables import load_dialects, load_layouts
from resnet_spec.checkpoints.transfer.matching import detect_namings
from resnet_spec.library import bundled
from shared.bundled_networks import bundled_network
from shared.peer_recordings import peer_state_dicts
from shared.sampling import one_in

PEERS = {"timm": "timm", "torchvision": "torchvision", "paddle": "paddle.vision", "paddleclas": "PaddleClas"}
"""The library whose names are recorded for each folder of bundled networks."""

EXPECTED_COUNTS = {
    ("paddle", "torchvision"): 13,
    ("paddleclas", "paddleclas"): 13,
    ("paddleclas", "paddleclas_regnet"): 12,
    ("paddleclas", "paddleclas_res2net"): 5,
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
"""For how many networks of a folder a dialect gives exactly the library's names and shapes."""


@lru_cache(8)
def layers_of(spec: str) -> list[Layer]:
    return list_layers(bundled_network(spec))


def find_mappings(spec: str, dialect: str | None, layout: str) -> dict[str, WeightMapping] | None:
    table = load_dialects()[dialect] if dialect else None
    return map_weights(layers_of(spec), table, load_layouts()[layout])


@pytest.mark.sweep  # it loads all bundled networks
def test_names_and_shapes_are_those_of_the_library() -> None:
    """The names are derived from the network's tree alone, so a layer with a wrong role would get a wrong name."""
    counts: Counter[tuple[str, str]] = Counter()
    for spec in bundled.names():
        folder, _, name = spec.partition("/")
        peer = f"{PEERS.get(folder)}/{name}"
        if peer not in peer_state_dicts():
            continue
        layout = "paddle" if folder.startswith("paddle") else "torch"
        for dialect in load_dialects().values():
            mappings = find_mappings(spec, dialect.name, layout) if dialect.layout in (None, layout) else None
            ours = {mapping.name: mapping.shape for mapping in mappings.values()} if mappings else {}
            if ours == dict(peer_state_dicts()[peer]):
                counts[folder, dialect.name] += 1
    assert counts == EXPECTED_COUNTS


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
        (
            "timm/convnext_tiny",
            "huggingface_convnext",
            "torch",
            {
                "stem.0.weight": "embeddings.patch_embeddings.weight",
                "stages.1.downsample.1.bias": "encoder.stages.1.downsampling_layer.1.bias",
                "stages.0.blocks.1.mlp.fc2.weight": "encoder.stages.0.layers.1.pwconv2.weight",
                "stages.0.blocks.1.gamma": "encoder.stages.0.layers.1.layer_scale_parameter",
                "head.norm.weight": "layernorm.weight",
            },
        ),
        (
            "timm/convnextv2_tiny",
            "convnext",
            "torch",
            {
                "stem.1.weight": "downsample_layers.0.1.weight",
                "stages.3.downsample.0.bias": "downsample_layers.3.0.bias",
                "stages.2.blocks.8.mlp.grn.weight": "stages.2.8.grn.gamma",
                "head.fc.bias": "head.bias",
            },
        ),
        ("resnet18", None, "nnx", {"layer1.0.bn1.weight": "layer1.0.bn1.scale.value"}),
    ],
)
def test_names_are_those_in_the_librarys_source(
    spec: str, dialect: str | None, layout: str, names: dict[str, str]
) -> None:
    mappings = find_mappings(spec, dialect, layout)
    assert mappings is not None
    assert {name: mappings[name].name for name in names} == names


@pytest.mark.parametrize("spec", one_in(25, bundled.names()))
@pytest.mark.share(3)
def test_mapping_is_a_bijection(spec: str) -> None:
    layers, weights = list_layers(bundled_network(spec)), bundled_network(spec).weights()
    own = [(None, layout) for layout in load_layouts().values()]
    others = [(dialect, load_layouts()[dialect.layout or "torch"]) for dialect in load_dialects().values()]
    for dialect, layout in [*own, *others]:
        mappings = map_weights(layers, dialect, layout)
        if mappings is None:
            assert dialect is not None  # every network has names of its own
            continue
        assert mappings.keys() == weights.keys()
        assert len({normalize_name(mapping.name) for mapping in mappings.values()}) == len(weights)
        for name, mapping in mappings.items():
            assert sorted(mapping.axes) == list(range(len(mapping.reshaped)))
            assert math.prod(mapping.reshaped) == math.prod(weights[name])


@pytest.mark.parametrize("layout", load_layouts())
def test_arrays_are_converted_back_bit_for_bit(layout: str) -> None:
    """The arrays have axes of many lengths; some are copied in blocks, some in one piece."""
    mappings = find_mappings("timm/ecaresnet26t", None, layout)
    assert mappings is not None
    for name, shape in bundled_network("timm/ecaresnet26t").weights().items():
        if name.startswith(("conv1", "layer1.0", "layer1.1.se", "fc")):
            array, mapping = np.random.default_rng(0).standard_normal(shape).astype(np.float32), mappings[name]
            stored = mapping.to_stored(array)
            assert stored.shape == mapping.shape
            assert stored.flags.c_contiguous
            assert np.array_equal(stored, array.reshape(mapping.reshaped).transpose(mapping.axes))
            assert mapping.to_canonical(stored).tobytes() == array.tobytes()


def test_matrix_is_stored_as_1x1_convolution_and_vice_versa() -> None:
    gate = find_mappings("timm/seresnet50", "paddleclas_zoo", "paddle")
    head = find_mappings("preact_resnet18_cifar", "timm_resnetv2", "torch")
    assert gate is not None
    assert head is not None
    assert gate["layer1.0.se.fc1.weight"].shape == (256, 16)
    assert head["fc.weight"].shape == (10, 512, 1, 1)
    kernel = np.arange(64 * 4).reshape(4, 64, 1, 1)
    mapping = WeightMapping("a", kernel.shape, (4, 64), (1, 0))
    assert np.array_equal(mapping.to_stored(kernel), kernel[:, :, 0, 0].T)
    assert np.array_equal(mapping.to_canonical(mapping.to_stored(kernel)), kernel)


def test_roles_are_unique_in_a_network() -> None:
    assert all(
        len(set(find_roles(bundled_network(spec)).values())) == len(find_roles(bundled_network(spec)))
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
        (["convnext.encoder.stages.0.layers.2.dwconv.weight"], "huggingface_convnext", "torch"),
        (["model.stages.0.2.dwconv.weight"], "convnext", "torch"),
        (["conv1.kernel"], None, "nnx"),
    ],
)
def test_dialect_is_detected_by_a_few_names(names: list[str], dialect: str | None, layout: str) -> None:
    detected = [(d and d.name, detected.name) for d, detected in detect_namings(names, "torch")]
    assert (dialect, layout) in detected
    assert {name for name, _ in detected} <= {None, dialect}
