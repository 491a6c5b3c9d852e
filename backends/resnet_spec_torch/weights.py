"""Set and read the canonical weights of a PyTorch model. Their names and layouts are PyTorch's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import ml_dtypes
import torch
from torch import Tensor, nn

from resnet_spec.weights.canonical import Array, collect_weights, match_weights
from resnet_spec_torch.modules import FrozenModel, ResNet


def fill(model: ResNet, weights: Mapping[str, Tensor]) -> None:
    """Set the weights of a model that has them on the meta device. The tensors become the model's own."""
    for name, tensor in weights.items():
        module, attribute = _find_owner(model, name)
        if attribute in module._parameters:
            module._parameters[attribute] = nn.Parameter(tensor)
        else:
            module._buffers[attribute] = tensor
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # canonical weights leave this buffer out, so it is still on meta
            module.num_batches_tracked = torch.tensor(0)


def dump(model: nn.Module) -> dict[str, Array]:
    """Return the canonical weights, bit for bit, as copies; bfloat16 is ml_dtypes'."""
    return {name: _to_bits(tensor) for name, tensor in _read_tensors(model).items()}


def _read_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights by canonical name: a model's own tensors, or copies if it is frozen."""
    return model.unpack_weights() if isinstance(model, FrozenModel) else named_tensors(cast("ResNet", model))


def _to_bits(tensor: Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy(force=True).copy().view(ml_dtypes.bfloat16)
    return to_array(tensor)


def to_array(tensor: Tensor) -> Array:
    """Return a copy in NumPy; bfloat16, which NumPy lacks, becomes float32, which holds each of its values."""
    supported = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return supported.numpy(force=True).copy()


def load(model: nn.Module, weights: Mapping[str, Array]) -> None:
    """Set all weights. Raises WeightsError, before any is set, if they do not fit."""
    tensors = _read_tensors(model)
    matched = match_weights({name: tuple(tensor.shape) for name, tensor in tensors.items()}, weights)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(matched[name]))
    if isinstance(model, FrozenModel):
        model.pack_weights(tensors)


def named_tensors(model: ResNet) -> dict[str, Tensor]:
    """Return a model's parameters and running statistics by canonical name. Raises WeightsError if one is missing."""
    return collect_weights(model.network, partial(_find_tensor, model))


def _find_tensor(model: ResNet, name: str) -> Tensor | None:
    try:
        module, attribute = _find_owner(model, name)
    except AttributeError:
        return None
    tensor = getattr(module, attribute, None)
    return tensor if isinstance(tensor, Tensor) else None


def _find_owner(model: ResNet, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns a weight, and the weight's attribute there."""
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute
