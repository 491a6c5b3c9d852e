"""Set and read the canonical weights of a model. ONNX's names and layouts are PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping

from resnet_spec.weights.canonical import Array, match_weights
from resnet_spec_onnx.modules import NO_SESSION, ResNet


def dump(model: ResNet) -> dict[str, Array]:
    """Return the canonical weights, bit for bit, as copies."""
    return {name: array.copy() for name, array in model.weights.items()}


def load(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Set all weights, in the model's dtype. Raises WeightsError, before any is set, if they do not fit."""
    model.weights = match_weights(model.network.weights(), weights, model.dtype)
    model.session = NO_SESSION
