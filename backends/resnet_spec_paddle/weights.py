"""Canonical weights into a Paddle model and out of it: Paddle names statistics otherwise, and transposes linear weights."""

from __future__ import annotations

from collections.abc import Mapping

import paddle
from paddle import Tensor, nn

from resnet_spec.weights.canonical import Array, match_weights
from resnet_spec_paddle.modules import ResNet

_NAMES = {"running_mean": "_mean", "running_var": "_variance"}


def fill(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Copy the arrays into a model whose weights have no memory yet."""
    for name, tensor in tensors(model).items():
        tensor.set_value(_turned(model, name, weights[name]))


def dump(model: ResNet) -> dict[str, Array]:
    """The canonical weights, bit for bit, as copies."""
    return canonical(model, tensors(model))


def load(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Set all weights. Raises WeightsError, before anything is set, if they do not fit."""
    given = match_weights(model.network.weights(), weights)
    for name, tensor in tensors(model).items():
        array = _turned(model, name, given[name])
        tensor.set_value(paddle.to_tensor(array, dtype=tensor.dtype, place=tensor.place))
    model.changed()


def tensors(model: ResNet) -> dict[str, Tensor]:
    """A model's parameters and statistics by canonical name, in Paddle's layout."""
    found = {}
    for name in model.network.weights():
        module, last = _owner(model, name)
        found[name] = getattr(module, last)
    return found


def canonical(model: ResNet, tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    """Weights, or their gradients, as arrays in the canonical layouts, copied."""
    return {name: _turned(model, name, tensor.numpy()).copy() for name, tensor in tensors.items() if tensor is not None}


def _turned(model: ResNet, name: str, array: Array) -> Array:
    """From Paddle's layout to the canonical one, or back: a linear weight is (in, out) here and (out, in) there."""
    module, last = _owner(model, name)
    return array.T if isinstance(module, nn.Linear) and last == "weight" else array


def _owner(model: ResNet, name: str) -> tuple[nn.Layer, str]:
    path, _, last = name.rpartition(".")
    return sublayer(model, path), _NAMES.get(last, last)


def sublayer(model: ResNet, path: str) -> nn.Layer:
    """The layer at a path; the model itself under ""."""
    module: nn.Layer = model
    for name in path.split(".") if path else ():
        module = module._sub_layers[name]
    return module
