"""A network to a PyTorch module: the tree, part by part, and its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar, assert_never

import torch
from torch import nn

from resnet_spec.network.execution import held_parts, is_plain_row, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import rows_as_written
from resnet_spec.weights.canonical import Array
from resnet_spec_torch import modules
from resnet_spec_torch.layers import layer
from resnet_spec_torch.weights import fill

Model = TypeVar("Model", bound=modules.ResNet)


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """The network as a torch.nn.Module in evaluation mode. ``weights`` become its own."""
    return filled(modules.ResNet(network), weights, dtype)


def filled(model: Model, weights: Mapping[str, Array], dtype: str) -> Model:
    """A model that holds nothing yet, with what its network says, and its weights."""
    _register(model, "", model.network.parts, getattr(torch, dtype))
    fill(model, weights)
    return model.eval()


def _module(part: Part, dtype: torch.dtype) -> nn.Module:
    match part:
        case Leaf():
            return layer(part, dtype)
        case Chain() if is_plain_row(part):
            named = ((names[0], _module(inner, dtype)) for names, inner in held_parts(part.path, part.parts))
            return nn.Sequential(OrderedDict(named))
        case Chain():
            chain = modules.Chain(plan_steps(part.path, part.parts))
            return _register(chain, part.path, part.parts, dtype)
        case Residual():
            block = modules.Residual(plan_residual(part))
            for row in rows_as_written(part):
                _register(block, part.path, row, dtype)
            return block
        case Parallel():  # its branches are registered beside it
            return modules.Parallel(part.split, part.cascade, part.combine)
        case _:
            assert_never(part)


def _register(holder: nn.Module, path: str, row: Row, dtype: torch.dtype) -> nn.Module:
    """Register the parts that a module at a path holds, under their names below that path; return the module."""
    for (*outer, name), part in held_parts(path, row):
        module: Any = holder
        for step in outer:
            if step not in module._modules:
                module.add_module(step, nn.Module())
            module = module._modules[step]
        module.add_module(name, _module(part, dtype))
    return holder
