"""Build a PyTorch module from a network: its layers part by part, then its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar, assert_never

import torch
from torch import Tensor, nn

from resnet_spec.network.execution import held_parts, is_plain_row, own_weight, plan_parallel, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.weights.canonical import Array
from resnet_spec_torch import modules
from resnet_spec_torch.layers import make_layer
from resnet_spec_torch.mixed_precision import MixedResNet, mix_precision
from resnet_spec_torch.weights import fill

Model = TypeVar("Model", bound=modules.ResNet)


def build(network: Network, weights: Mapping[str, Array], dtype: str, compute: str | None = None) -> modules.ResNet:
    """Return the network as a torch.nn.Module in evaluation mode. It takes over the memory of ``weights``.

    With ``compute``, convolutions and linear layers are computed in that 16-bit type.
    """
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    if compute is None:
        return build_layers(modules.ResNet(network), tensors, getattr(torch, dtype))
    return mix_precision(build_layers(MixedResNet(network, compute), tensors, getattr(torch, dtype)))


def build_layers(model: Model, weights: Mapping[str, Tensor], dtype: torch.dtype) -> Model:
    """Make the modules of an empty model, and return it in evaluation mode.

    The weights, which are of that type, become their own.
    """
    _register(model, "", model.network.parts, dtype)
    fill(model, weights)
    return model.eval()


def _make_module(part: Part, dtype: torch.dtype) -> nn.Module:
    match part:
        case Leaf():
            return make_layer(part, dtype)
        case Chain() if is_plain_row(part):
            named = ((names[0], _make_module(inner, dtype)) for names, inner in held_parts(part.path, part.parts))
            return nn.Sequential(OrderedDict(named))
        case Chain():
            chain = modules.Chain(plan_steps(part.path, part.parts))
            return _register(chain, part.path, part.written_rows[0], dtype)
        case Residual():
            block = modules.Residual(plan_residual(part))
            for row in part.written_rows:
                _register(block, part.path, row, dtype)
            return block
        case Parallel():  # held_parts lists its branches after it, and the same holder registers them
            return modules.Parallel(plan_parallel(part))
        case _:
            assert_never(part)


def _register(holder: nn.Module, path: str, row: Row, dtype: torch.dtype) -> nn.Module:
    """Register a row of parts in the module at a path, by their names relative to it; return the module."""
    for (*outer, name), part in held_parts(path, row):
        module: Any = holder
        for step in outer:
            if step not in module._modules:
                module.add_module(step, nn.Module())
            module = module._modules[step]
        weight = own_weight(part)
        if weight:
            module.register_parameter(weight, nn.Parameter(torch.empty((), device="meta", dtype=dtype)))
        module.add_module(name, _make_module(part, dtype))
    return holder


def finds_accelerator() -> bool:
    """Return whether the framework can compute on more than the CPU."""
    return torch.cuda.is_available()
