"""A network to an object that evaluates it in NumPy."""

from __future__ import annotations

from collections.abc import Mapping

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy.modules import ResNet


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> ResNet:
    """The network with its weights, in evaluation mode. ``weights`` become its own; they are of the dtype already."""
    return ResNet(network, dict(weights))
