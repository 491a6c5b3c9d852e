"""A network to a PyTorch module: the tree, part by part, and its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from resnet_spec.network import Network, Part, Residual, Sequence
from resnet_spec.spec import Role
from resnet_spec.weights import Array
from resnet_spec_torch import modules
from resnet_spec_torch.layers import layer
from resnet_spec_torch.weights import fill


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """The network as a torch.nn.Module in evaluation mode. ``weights`` become its own."""
    kind = getattr(torch, dtype)
    model = modules.ResNet(network, [part.path for part in network.parts])
    for part in network.parts:
        _attach(model, part.path, _module(part, kind))
    fill(model, weights)
    return model.eval()


def _module(part: Part, dtype: torch.dtype) -> nn.Module:
    match part:
        case Residual():
            sections: dict[Role, list[str]] = {role: _names(part, part.section(role)) for role in part.order}
            module: nn.Module = modules.Residual(sections, part.combine)
            children = [child for role in part.order for child in part.section(role)]
        case Sequence():
            names_ = _names(part, part.parts)
            if not any("." in name for name in names_):
                named = ((name, _module(child, dtype)) for name, child in zip(names_, part.parts, strict=True))
                return nn.Sequential(OrderedDict(named))
            module, children = modules.Chain(names_), list(part.parts)
        case _:
            return layer(part, dtype)
    for name, child in zip(_names(part, children), children, strict=True):
        _attach(module, name, _module(child, dtype))
    return module


def _names(parent: Part, parts: tuple[Part, ...] | list[Part]) -> list[str]:
    """The parts' names below their parent's."""
    return [part.path.removeprefix(f"{parent.path}.") for part in parts]


def _attach(module: nn.Module, name: str, child: nn.Module) -> None:
    *path, last = name.split(".")
    for step in path:
        if step not in module._modules:
            module.add_module(step, nn.Module())
        module = module._modules[step]  # type: ignore[assignment]
    module.add_module(last, child)
