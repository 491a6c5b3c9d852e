"""A network to a PaddlePaddle layer: the tree, part by part, and its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import paddle
from paddle import nn

from resnet_spec.language.spec import Role
from resnet_spec.network.network import Chain, Network, Parallel, Part, Residual
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle import modules
from resnet_spec_paddle.layers import layer
from resnet_spec_paddle.weights import fill

Model = TypeVar("Model", bound=modules.ResNet)


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """The network as a paddle.nn.Layer in evaluation mode. ``weights`` become its own."""
    return filled(modules.ResNet(network), weights, dtype)


def filled(model: Model, weights: Mapping[str, Array], dtype: str) -> Model:
    """A model that holds nothing yet, with what its network says, and its weights."""
    with _default_dtype(dtype), paddle.LazyGuard():
        _hold(model, "", model.network.parts)
    fill(model, weights)
    model.eval()
    return model


def _module(part: Part) -> nn.Layer:
    match part:
        case Residual():
            sections: dict[Role, modules.Steps] = {
                role: modules.steps(part.path, part.section(role)) for role in part.order
            }
            module: nn.Layer = modules.Residual(sections, part.combine, part.reads)
            for role in part.order:
                _hold(module, part.path, part.section(role))
        case Parallel():
            module = modules.Parallel(part.split, part.cascade, part.combine)
        case Chain():
            names = [modules.name(part.path, child) for child in part.parts]
            if not any(
                "." in name or isinstance(child, Parallel) for name, child in zip(names, part.parts, strict=True)
            ):
                return nn.Sequential(*((name, _module(child)) for name, child in zip(names, part.parts, strict=True)))
            module = modules.Chain(modules.steps(part.path, part.parts))
            _hold(module, part.path, part.parts)
        case _:
            module = layer(part)
    return module


def _hold(module: nn.Layer, path: str, parts: Iterable[Part]) -> None:
    """Register parts, and those of branches beside them, under their names below the holder's path."""
    for part in parts:
        *way, last = modules.name(path, part).split(".")
        inner = module
        for step in way:
            if step not in inner._sub_layers:
                inner.add_sublayer(step, nn.Layer())
            inner = inner._sub_layers[step]
        inner.add_sublayer(last, _module(part))
        for branch in part.branches if isinstance(part, Parallel) else ():
            _hold(module, path, branch)


@contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    """Paddle's layers take their type from a global, and from nowhere else."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(getattr(paddle, dtype))
    try:
        yield
    finally:
        paddle.set_default_dtype(before)
