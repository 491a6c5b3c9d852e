"""A network to a PyTorch module: the tree, part by part, and its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from resnet_spec.language.spec import Role
from resnet_spec.network.network import Chain, Network, Parallel, Part, Residual
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
    _hold(model, "", model.network.parts, getattr(torch, dtype))
    fill(model, weights)
    return model.eval()


def _module(part: Part, dtype: torch.dtype) -> nn.Module:
    match part:
        case Residual():
            sections: dict[Role, modules.Steps] = {
                role: modules.steps(part.path, part.section(role)) for role in part.order
            }
            module: nn.Module = modules.Residual(sections, part.combine, part.reads)
            for role in part.order:
                _hold(module, part.path, part.section(role), dtype)
        case Parallel():
            module = modules.Parallel(part.split, part.cascade, part.combine)
        case Chain():
            names = [modules.name(part.path, child) for child in part.parts]
            if not any(
                "." in name or isinstance(child, Parallel) for name, child in zip(names, part.parts, strict=True)
            ):
                named = ((name, _module(child, dtype)) for name, child in zip(names, part.parts, strict=True))
                return nn.Sequential(OrderedDict(named))
            module = modules.Chain(modules.steps(part.path, part.parts))
            _hold(module, part.path, part.parts, dtype)
        case _:
            module = layer(part, dtype)
    return module


def _hold(module: nn.Module, path: str, parts: Iterable[Part], dtype: torch.dtype) -> None:
    """Register parts, and those of branches beside them, under their names below the holder's path."""
    for part in parts:
        *way, last = modules.name(path, part).split(".")
        inner: Any = module
        for step in way:
            if step not in inner._modules:
                inner.add_module(step, nn.Module())
            inner = inner._modules[step]
        inner.add_module(last, _module(part, dtype))
        for branch in part.branches if isinstance(part, Parallel) else ():
            _hold(module, path, branch, dtype)
