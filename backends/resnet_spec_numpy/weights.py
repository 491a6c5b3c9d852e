"""Set and read the canonical weights of the reference, which keeps them as they are."""

from __future__ import annotations

from collections.abc import Mapping

from resnet_spec.weights.canonical import Array, match_weights
from resnet_spec_numpy.modules import ResNet


def dump(model: ResNet) -> dict[str, Array]:
    """Return the canonical weights, bit for bit, as copies."""
    return {name: array.copy() for name, array in model.weights.items()}


def load(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Set all weights, in the model's dtype. Raises WeightsError, before any is set, if they do not fit."""
    model.weights = match_weights(model.network.weights(), weights, str(model.dtype))
