"""Build a PyTorch module from a network: its layers part by part, then its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from resnet_spec.network.execution import held_parts, is_plain_row, own_weight, plan_parallel, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import rows_as_written
from resnet_spec.weights.canonical import Array
from resnet_spec_torch import modules
from resnet_spec_torch.layers import make_layer
from resnet_spec_torch.weights import fill


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """Return the network as a torch.nn.Module in evaluation mode. It takes over the memory of ``weights``."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return build_layers(network, tensors, getattr(torch, dtype))


def build_layers(network: Network, weights: Mapping[str, Tensor], dtype: torch.dtype) -> modules.ResNet:
    """Return the network's modules in evaluation mode. The weights, which are of that type, become their own."""
    model = modules.ResNet(network)
    _register(model, "", network.parts, dtype)
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
            return _register(chain, part.path, part.parts_as_written(), dtype)
        case Residual():
            block = modules.Residual(plan_residual(part))
            for row in rows_as_written(part):
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
