"""Weights adapted to other classes and channels: what is drawn, converted and kept, with the same bits everywhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import WeightsError, build, convert, dump, load, run, save_weights
from resnet_spec.checkpoints.transfer.adaptation import convert_channels
from resnet_spec.library import bundled
from resnet_spec.library.published import find_published
from resnet_spec.network.network import Network
from resnet_spec.transforms.adaptation import FirstLayer, Head, find_classifiers, find_first_layers
from resnet_spec.weights.canonical import Array, comparison_weights, initialize
from shared.frameworks import required
from shared.paths import SHARED
from shared.sampling import one_in

LAYOUTS = {
    "cifar/resnet20": (["conv1"], ["linear"]),
    "resnet18": (["conv1"], ["fc"]),
    "timm/resnet26d": (["conv1.0"], ["fc"]),
    "timm/legacy_seresnet18": (["layer0.conv1"], ["last_linear"]),
    "timm/regnetx_002": (["stem.conv"], ["head.fc"]),
    "timm/regnetv_040": (["stem"], ["head.fc"]),
    "timm/resnetv2_18d": (["stem.conv1"], ["head.fc"]),
    "torchvision/regnet_x_400mf": (["stem.0"], ["fc"]),
    "timm/resnetv2_50x1_bit": (["stem.conv"], ["head.fc"]),  # standardised convolutions, a convolution as classifier
    "timm/repvit_m0_9": (["stem.conv1.c"], ["head.head.l", "head.head_dist.l"]),  # two classifiers
    "paddleclas/RepVGG_A0": (["stage0.rbr_dense.conv", "stage0.rbr_1x1.conv"], ["linear"]),  # two first layers
    "timm/tresnet_m": (["body.conv1.conv"], ["head.fc"]),  # reads 4 x 4 pixels at once
    "torchvision/squeezenet1_1": (["features.0"], ["classifier.1"]),  # pools behind its classifier
}
"""The first layers and the classifiers of networks of each layout."""


def classifier_arrays(network: Network) -> set[str]:
    paths = tuple(f"{leaf.path}." for leaf in find_classifiers(network))
    return {name for name in network.weights() if name.startswith(paths)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_first_layers_and_classifiers_are_found(name: str) -> None:
    network = load(name)
    found = [layer.leaf.path for layer in find_first_layers(network)], [leaf.path for leaf in find_classifiers(network)]
    assert found == LAYOUTS[name]


@pytest.mark.parametrize("name", one_in(100, bundled.names()))
def test_they_are_those_that_the_libraries_state(name: str) -> None:
    """The published weights' tables name them for most networks; the bundled ones that end in features have none."""
    network = load(name)
    first_layers = tuple(layer.leaf.path for layer in find_first_layers(network))
    classifiers = tuple(leaf.path for leaf in find_classifiers(network))
    assert first_layers
    assert classifiers or name.endswith("_clip_gap")
    for weights in find_published(name):
        assert weights.first_conv in ((), first_layers)
        assert weights.classifier in ((), classifiers)


@pytest.mark.parametrize("name", one_in(3, LAYOUTS))
@pytest.mark.share(2)
def test_a_new_head_and_a_grey_stem_leave_the_rest(name: str) -> None:
    """Of 1,000-class weights for three channels: the classifier is drawn from the seed, the stem summed."""
    source = comparison_weights(load(name), dtype="float32")
    size = load(name).input[1:]
    model = build(
        name,
        backend="numpy",
        dtype="float32",
        weights=source,
        seed=3,
        head="new",
        stem="sum",
        classes=7,
        input=(1, *size),
    )
    target = load(name, classes=7, input=(1, *size))
    drawn, adapted = initialize(target, 3), dump(model)
    stems = {layer.leaf.weight_path("weight") for layer in find_first_layers(target)}
    heads = classifier_arrays(target)
    assert adapted.keys() == target.weights().keys()
    for array in adapted:
        if array in heads:
            assert (adapted[array] == drawn[array]).all()
        elif array not in stems:
            assert (adapted[array] == source[array]).all()
    for array in stems:
        assert adapted[array].shape == target.weights()[array]
        assert adapted[array].sum() == pytest.approx(source[array].sum(), rel=1e-3, abs=1e-3)


def timms(weight: Array, channels: int) -> Array:
    """Return what timm's adapt_input_conv gives for three channels, channel by channel."""
    if channels == 1:
        return weight[:, :1] + weight[:, 1:2] + weight[:, 2:3]
    filters = [weight[:, index % 3] for index in range(channels)]
    return np.stack(filters, axis=1) * np.float32(3 / channels)


@pytest.mark.parametrize("channels", range(1, 17))
def test_channels_are_converted_as_timm_does(channels: int) -> None:
    weight = np.random.default_rng(channels).standard_normal((5, 3, 2, 2)).astype(np.float32)
    (first,) = find_first_layers(load("resnet18"))
    converted = convert_channels(weight, channels, "sum" if channels == 1 else "repeat", first)
    assert (converted == timms(weight, channels)).all()
    mean = convert_channels(weight, channels, "mean", first)
    assert mean.shape == (5, channels, 2, 2)
    assert mean.sum(1) == pytest.approx(weight.sum(1), abs=1e-5)  # an image of equal channels gives what it gave before
    if channels % 3 == 0:
        assert converted.sum(1) == pytest.approx(weight.sum(1), abs=1e-5)


@pytest.mark.parametrize("channel_first", [False, True])
def test_tiles_of_pixels_keep_their_order(channel_first: bool) -> None:
    """Behind space_to_depth, each pixel of a tile has its channels, in either order."""
    leaf = find_first_layers(load("resnet18"))[0].leaf
    weight = np.random.default_rng(0).standard_normal((2, 12, 1, 1)).astype(np.float32)
    tiled = weight.reshape(2, 3, 4) if channel_first else weight.reshape(2, 4, 3).transpose(0, 2, 1)
    converted = convert_channels(weight, 1, "sum", FirstLayer(leaf, 4, channel_first))
    assert converted.reshape(2, 4) == pytest.approx(tiled.sum(1), abs=1e-6)
    doubled = convert_channels(weight, 6, "repeat", FirstLayer(leaf, 4, channel_first)) * 2
    again = doubled.reshape(2, 6, 4) if channel_first else doubled.reshape(2, 4, 6).transpose(0, 2, 1)
    assert (again == np.concatenate([tiled, tiled], axis=1)).all()


def test_all_backends_have_the_same_bits(tmp_path: Path, backend_name: str) -> None:
    source = comparison_weights(load("cifar/resnet20"), dtype="float32")
    options: dict[str, Any] = {"classes": 5, "input": (4, 32, 32), "head": "new", "stem": "repeat", "seed": 1}
    expected = dump(build("cifar/resnet20", backend="numpy", dtype="float32", weights=source, **options))
    model = build("cifar/resnet20", backend=backend_name, dtype="float32", weights=source, **options)
    adapted = dump(model)
    assert adapted.keys() == expected.keys()
    assert all((adapted[name] == expected[name]).all() for name in expected)
    save_weights(model, tmp_path / "w.safetensors")  # which says for which network it is
    convert(tmp_path / "w.safetensors", tmp_path / "w.pth")
    again = dump(build("cifar/resnet20", backend="numpy", weights=tmp_path / "w.pth", classes=5, input=(4, 32, 32)))
    assert all((again[name] == expected[name]).all() for name in expected)


@pytest.mark.share(2)
def test_a_network_without_its_head_outputs_features(backend_name: str) -> None:
    source = comparison_weights(load("resnet18"), dtype="float32")
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    whole = build("resnet18", backend="numpy", weights=source)
    features = run(build("resnet18", backend=backend_name, weights=source, head="none"), images)
    assert features.shape == (2, 512)
    logits = features.astype(np.float64) @ source["fc.weight"].T.astype(np.float64) + source["fc.bias"]
    assert logits == pytest.approx(run(whole, images), abs=2e-4)


def test_a_file_without_a_head_loads_where_asked(tmp_path: Path) -> None:
    headless = build("resnet18", backend="numpy", dtype="float32", seed=5, head="none")
    save_weights(headless, tmp_path / "body.safetensors")
    with pytest.raises(WeightsError, match=r'the file has no head; to load the rest: .*, or build with head="new"'):
        build("resnet18", backend="numpy", weights=tmp_path / "body.safetensors")
    heads: tuple[Head, ...] = ("new", "none")
    for head in heads:
        model = build("resnet18", backend="numpy", weights=tmp_path / "body.safetensors", head=head)
        assert (dump(model)["layer4.1.conv2.weight"] == dump(headless)["layer4.1.conv2.weight"]).all()


@pytest.mark.parametrize("suffix", [".pdparams", ".npz", ".pth", ""])
def test_files_of_every_layout_are_adapted(suffix: str, tmp_path: Path) -> None:
    """The channels of an image are found on whichever axis a framework has them."""
    model = build("cifar/resnet20", backend="numpy", dtype="float32", seed=2)
    file = tmp_path / f"weights{suffix}"
    save_weights(model, file)
    adapted = dump(build("cifar/resnet20", backend="numpy", weights=file, input=(1, 32, 32), stem="mean"))
    expected = dump(model)["conv1.weight"]
    assert (adapted["conv1.weight"] == timms(expected, 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "old"}, "head is 'old'; it can be new or none"),
        ({"stem": "add"}, "stem is 'add'; it can be sum, repeat or mean"),
        ({"head": "new", "weights": None}, "head='new' adapts weights, and there are none"),
        ({"stem": "sum", "weights": None}, "stem='sum' adapts weights, and there are none"),
        ({"head": "none", "classes": 10}, 'classes has no effect with head="none"'),
        ({"head": "new", "outputs": ["layer3"]}, "head='new' has no effect with outputs"),
        ({"stem": "mean"}, "stem has no effect, since conv1.weight is for 3 channels in the file too; leave it out"),
        ({"stem": "sum", "input": (2, 32, 32)}, "stem='sum' is not for more than one channel; use 'repeat' or 'mean'"),
        ({"stem": "repeat", "input": (1, 32, 32)}, "stem='repeat' is not for one channel; use 'sum' or 'mean'"),
        ({"classes": 7}, 'the head has 10 classes, and the spec says 7: classes=10, or build with head="new"'),
        ({"input": (4, 32, 32)}, 'since the network\'s images have 4 channels; build with stem="repeat" to convert'),
    ],
)
def test_what_has_no_effect_or_does_not_fit_is_said(options: dict[str, Any], message: str) -> None:
    source = initialize(load("cifar/resnet20"))
    with pytest.raises(ValueError) as caught:
        build("cifar/resnet20", backend="numpy", **{"weights": source, **options})
    assert message in str(caught.value)


def test_a_network_that_ends_in_features_has_no_head_to_replace() -> None:
    network = load("resnet18", outputs=["layer3"])
    with pytest.raises(ValueError, match="resnet18 does not end in a classifier"):
        build(network, backend="numpy", head="none")


def test_a_real_checkpoint_is_adapted() -> None:
    """akamaster's resnet20, trained on CIFAR-10: grey images of equal channels give the features that they gave."""
    file = SHARED / "data" / "checkpoints" / "resnet20-12fca82f.th"
    if not file.exists():
        pytest.skip("the checkpoints in ../shared are not here")
    grey = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
    original = build("cifar/resnet20", backend="numpy", weights=file, head="none")
    summed = build("cifar/resnet20", backend="numpy", weights=file, input=(1, 32, 32), head="none", stem="sum")
    wide = build("cifar/resnet20", backend="numpy", weights=file, input=(6, 32, 32), head="none", stem="repeat")
    expected = run(original, grey.repeat(3, 1))
    assert run(summed, grey) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert run(wide, grey.repeat(6, 1)) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert math.isfinite(float(expected.sum()))


def test_timm_adapts_the_same_file_to_the_same_bits(tmp_path: Path) -> None:
    """timm's own loading, with other classes and channels, of a file that it wrote; needs timm."""
    required("torch")
    from shared.torchvision_operators import declare_torchvision_operators

    declare_torchvision_operators()
    timm = pytest.importorskip("timm", reason="timm is not installed")
    import torch

    for name in ("resnet18", "resnetv2_18d", "legacy_seresnet18", "regnetx_002", "repvit_m0_9"):
        file = tmp_path / f"{name}.pth"
        torch.save(timm.create_model(name).state_dict(), file)
        for channels in (1, 2, 4, 16):
            overlay = {"file": str(file), "num_classes": 1000}
            peer = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels, num_classes=9
            )
            stem = "sum" if channels == 1 else "repeat"
            spec = f"timm/{name}"
            options: dict[str, Any] = {"input": (channels, 224, 224), "head": "new", "stem": stem, "classes": 9}
            ours = dump(build(spec, backend="torch", weights=file, **options))
            heads = classifier_arrays(load(spec))
            state = {key: value.numpy() for key, value in peer.state_dict().items() if key in ours}
            assert state.keys() == ours.keys()
            assert all((state[key] == ours[key]).all() for key in ours if key not in heads)
