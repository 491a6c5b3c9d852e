"""A backend from another distribution: the reference with negated outputs, which tells the two apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import resnet_spec_numpy
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array

DTYPE = "float64"
CAPABILITIES = resnet_spec_numpy.CAPABILITIES


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> Any:
    model = resnet_spec_numpy.build(network, weights, dtype)
    model.resnet_spec_backend = "shouting"  # type: ignore[misc]
    return model


dump = resnet_spec_numpy.dump
load = resnet_spec_numpy.load


def run(model: Any, images: Array, capture: Collection[str] = (), *, train: bool = False) -> dict[str, Array]:
    return {path: -array for path, array in resnet_spec_numpy.run(model, images, capture, train=train).items()}
