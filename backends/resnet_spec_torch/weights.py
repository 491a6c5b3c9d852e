"""Canonical weights into a PyTorch model and out of it. Names and layouts are PyTorch's own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resnet_spec.weights.canonical import Array, match_weights
from resnet_spec_torch.modules import ResNet


def fill(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Give the arrays to a model whose weights are still on the meta device, as its own memory."""
    for name, array in weights.items():
        module, last = _owner(model, name)
        tensor = torch.from_numpy(array)
        if last in module._parameters:
            module._parameters[last] = nn.Parameter(tensor)
        else:
            module._buffers[last] = tensor
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.tensor(0)


def dump(model: ResNet) -> dict[str, Array]:
    """The canonical weights, bit for bit, as copies."""
    return {name: array(tensor) for name, tensor in tensors(model).items()}


def array(tensor: Tensor) -> Array:
    """A copy in NumPy, which has no bfloat16: float32 holds its every value."""
    whole = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return whole.numpy(force=True).copy()


def load(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Set all weights. Raises WeightsError, before anything is set, if they do not fit."""
    given = match_weights(model.network.weights(), weights)
    with torch.no_grad():
        for name, tensor in tensors(model).items():
            tensor.copy_(torch.from_numpy(given[name]))


def tensors(model: ResNet) -> dict[str, Tensor]:
    """A model's parameters and statistics by canonical name."""
    found = {}
    for name in model.network.weights():
        module, last = _owner(model, name)
        found[name] = getattr(module, last)
    return found


def _owner(model: ResNet, name: str) -> tuple[nn.Module, str]:
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last
