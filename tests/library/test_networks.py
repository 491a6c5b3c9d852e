"""Bundled networks have the parameters, statistics, and weights of the models in other libraries."""

from __future__ import annotations

import pytest

from resnet_spec import load
from shared.peer_recordings import TORCHVISION, peer_models, peer_state_dicts


@pytest.mark.parametrize("name", TORCHVISION)
def test_weights_are_those_of_torchvision(name: str) -> None:
    assert list(load(name).weights().items()) == peer_state_dicts()[f"torchvision/{name}"]


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        (registry, name)
        for registry in ("torchvision", "paddle.vision")
        for name in TORCHVISION
        if (registry, name) in peer_models()
    ],
)
def test_number_of_parameters_is_that_of_the_library(registry: str, name: str) -> None:
    assert load(name).parameters == peer_models()[registry, name]["params"]


@pytest.mark.parametrize("name", ["resnet50d", "seresnet50"])
def test_weights_are_those_of_timm(name: str) -> None:
    assert list(load(name).weights().items()) == peer_state_dicts()[f"timm/{name}"]


@pytest.mark.parametrize(
    ("name", "parameters", "statistics", "output"),
    [
        ("resnet18_biased_shortcut", 11_690_408, 9_600, (1000,)),
        ("resnet34_cifar", 21_282_122, 17_024, (10,)),
        ("preact_resnet18_cifar", 11_172_170, 7_808 + 1_024 - 1_024, (10,)),
        ("resnet50d", 25_576_264, 53_120 + 256 - 128, (1000,)),
    ],
)
def test_networks_without_a_counterpart(name: str, parameters: int, statistics: int, output: tuple[int, ...]) -> None:
    network = load(name)
    assert (network.parameters, network.statistics, network.output_shape) == (parameters, statistics, output)


def test_macs_of_resnet18_are_those_that_pytorch_counts() -> None:
    assert load("resnet18").macs == 1_814_073_344


def test_cifar_shortcut_is_called_shortcut() -> None:
    names = [name for name in load("resnet34_cifar").weights() if name.startswith("layer2.0.shortcut")]
    assert names[0] == "layer2.0.shortcut.0.weight"
    assert names[-1] == "layer2.0.shortcut.1.running_var"


def test_caller_sets_an_argument() -> None:
    assert load("resnet18", classes=10).weights()["fc.weight"] == (10, 512)


def test_caller_sets_the_input() -> None:
    network = load("resnet18", input=(1, 28, 28))
    assert network.weights()["conv1.weight"] == (64, 1, 7, 7)
    assert next(network.leaves()).output_shape == (64, 14, 14)
