"""Intermediate feature maps as outputs of a model, in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec import build, capture, dump, load, run
from resnet_spec.backend import load_backend
from resnet_spec.network.features import Feature
from resnet_spec.transforms.feature_outputs import with_feature_outputs
from resnet_spec.weights.canonical import comparison_weights
from shared.bundled_networks import shallow_copy, small_copy
from shared.frameworks import required

X = np.random.default_rng(0).standard_normal((2, 3, 40, 56))


@pytest.mark.parametrize("outputs", [["layer2", "layer4"], ["layer4", "relu"], ["layer3.0", "layer3"], ["layer1.0"]])
@pytest.mark.share(3)
def test_outputs_are_those_that_capture_returns(backend_name: str, outputs: list[str]) -> None:
    network = small_copy("resnet18")
    weights = comparison_weights(network)
    model = build(network, backend=backend_name, weights=weights, dtype="float64")
    captured = capture(model, X, outputs)
    names = list(dump(build(network, backend=backend_name, outputs=outputs)))
    shortened = build(
        network, backend=backend_name, outputs=outputs, dtype="float64", weights={n: weights[n] for n in names}
    )
    maps = run(shortened, X)
    assert isinstance(maps, tuple)
    for feature_map, path in zip(maps, outputs, strict=True):
        assert np.abs(feature_map - captured[path]).max() < 1e-12


def test_parts_after_the_last_output_are_left_out() -> None:
    names = dump(build("resnet50", backend="numpy", outputs=["layer2"])).keys()
    assert not [name for name in names if name.startswith(("layer3", "layer4", "fc"))]


@pytest.mark.parametrize(("backend", "framework"), [("torch", "torch"), ("paddle", "paddle"), ("flax", "jax")])
def test_native_model_returns_a_tuple(backend: str, framework: str) -> None:
    required(backend)
    model = build(small_copy("resnet18"), backend=backend, outputs=["layer2", "layer4"])
    x = X.astype(np.float32)
    if framework == "torch":
        import torch

        maps = model(torch.from_numpy(x))
    elif framework == "paddle":
        import paddle

        maps = model(paddle.to_tensor(x))
    else:
        maps = model(x.transpose(0, 2, 3, 1))
    assert isinstance(maps, tuple)
    assert [map_.shape[0] for map_ in maps] == [2, 2]


def test_features_lists_the_possible_outputs() -> None:
    network = load("resnet50d")
    assert [
        feature
        for feature in network.features()
        if feature.path in ("act1", "relu", *(stage.path for stage in network.stages))
    ] == [
        Feature("relu", 64, 2),
        Feature("layer1", 256, 4),
        Feature("layer2", 512, 8),
        Feature("layer3", 1024, 16),
        Feature("layer4", 2048, 32),
    ]
    for feature in network.features():
        load("resnet50d", outputs=[feature.path])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["layer5"], "resnet18 cannot output 'layer5': did you mean 'layer4'?"),
        (["layer1.0.conv1"], "resnet18 cannot output 'layer1.0.conv1'"),
        ([], "outputs is empty; omit it for the output of the head"),
    ],
)
def test_impossible_outputs_raise_errors(outputs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        build("resnet18", backend="numpy", outputs=outputs)


def test_outputs_of_a_network_with_parallel_branches(backend_name: str) -> None:
    network = with_feature_outputs(shallow_copy("timm/res2net50_48w_2s"), ["layer1.0", "layer2"])
    model = build(network, backend=backend_name, dtype="float64")
    maps = load_backend(backend_name).run(model, X)
    assert {path: array.shape[1] for path, array in maps.items()} == {"layer1.0": 256, "layer2": 512}
