"""What the fine-tuning examples share: prepared pictures of digits, and which weights are frozen and which decay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

import resnet_spec
from digits import TEST_IMAGES, Digits

NETWORK = "cifar/resnet20"
SHAPE = (1, 32, 32)
"""Digits are grey; the weights are for colour pictures of this size."""


def build_adapted(backend: str, weights: str, seed: int) -> Any:
    """Build the network with trained weights, a new classifier of ten classes, and a first layer for grey pictures."""
    return resnet_spec.build(
        NETWORK, backend=backend, weights=weights, seed=seed, input=SHAPE, classes=10, head="new", stem="sum"
    )


def load_pictures(limit: int | None = None) -> tuple[Digits, Digits]:
    """Return the training pictures, or the first of them, and the test pictures, prepared for the network."""
    images, labels = datasets.load_digits(return_X_y=True)
    pictures = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[TEST_IMAGES:][:limit], order[:TEST_IMAGES]
    prepare = resnet_spec.preprocessing(resnet_spec.load(NETWORK, input=SHAPE))
    classes: NDArray[np.int64] = labels.astype(np.int64)
    return Digits(prepare(list(pictures[train])), classes[train]), Digits(prepare(list(pictures[test])), classes[test])


def list_frozen_layers(network: resnet_spec.Network, stages: int) -> set[str]:
    """Return the paths of the layers with weights before the end of the first stages, such as ``layer1.0.conv1``."""
    last = network.stages[stages - 1].path
    layers = [name.rpartition(".")[0] for name in network.weights()]
    end = max(index for index, layer in enumerate(layers) if layer.startswith(f"{last}."))
    return set(layers[: end + 1])


def is_decayed(parameter: Any) -> bool:
    """Return whether weight decay is for a parameter: for those of convolutions and matrices, not for norms, biases."""
    return len(parameter.shape) > 1
