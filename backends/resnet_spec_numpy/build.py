"""Build an object that evaluates a network in NumPy."""

from __future__ import annotations

from collections.abc import Mapping

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy.modules import ResNet


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> ResNet:
    """Return the network in evaluation mode. It keeps the arrays of ``weights``, which have the dtype already."""
    return ResNet(network, dict(weights), dtype)
