"""A network to a PaddlePaddle layer: the tree, part by part, and its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import paddle
from paddle import nn

from resnet_spec.network import Network, Part, Residual, Sequence
from resnet_spec.spec import Role
from resnet_spec.weights import Array
from resnet_spec_paddle import modules
from resnet_spec_paddle.layers import layer
from resnet_spec_paddle.weights import fill


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """The network as a paddle.nn.Layer in evaluation mode. ``weights`` become its own."""
    with _default_dtype(dtype), paddle.LazyGuard():
        model = modules.ResNet(network, [part.path for part in network.parts])
        for part in network.parts:
            _attach(model, part.path, _module(part))
    fill(model, weights)
    model.eval()
    return model


def _module(part: Part) -> nn.Layer:
    match part:
        case Residual():
            sections: dict[Role, list[str]] = {role: _names(part, part.section(role)) for role in part.order}
            module: nn.Layer = modules.Residual(sections, part.combine)
            children = [child for role in part.order for child in part.section(role)]
        case Sequence():
            names_ = _names(part, part.parts)
            if not any("." in name for name in names_):
                return nn.Sequential(*((name, _module(child)) for name, child in zip(names_, part.parts, strict=True)))
            module, children = modules.Chain(names_), list(part.parts)
        case _:
            return layer(part)
    for name, child in zip(_names(part, children), children, strict=True):
        _attach(module, name, _module(child))
    return module


def _names(parent: Part, parts: tuple[Part, ...] | list[Part]) -> list[str]:
    """The parts' names below their parent's."""
    return [part.path.removeprefix(f"{parent.path}.") for part in parts]


def _attach(module: nn.Layer, name: str, child: nn.Layer) -> None:
    *path, last = name.split(".")
    for step in path:
        if step not in module._sub_layers:
            module.add_sublayer(step, nn.Layer())
        module = module._sub_layers[step]
    module.add_sublayer(last, child)


@contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    """Paddle's layers take their type from a global, and from nowhere else."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(getattr(paddle, dtype))
    try:
        yield
    finally:
        paddle.set_default_dtype(before)
