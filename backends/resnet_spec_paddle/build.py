"""Build a Paddle layer from a network: its layers part by part, then its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, assert_never

import paddle
from paddle import nn

from resnet_spec.network.execution import held_parts, is_plain_row, own_weight, plan_parallel, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle import modules
from resnet_spec_paddle.layers import make_layer
from resnet_spec_paddle.locking import LOCK
from resnet_spec_paddle.mixed_precision import MixedResNet, mix_precision
from resnet_spec_paddle.weights import fill

Model = TypeVar("Model", bound=modules.ResNet)


def build(network: Network, weights: Mapping[str, Array], dtype: str, compute: str | None = None) -> modules.ResNet:
    """Return the network as a paddle.nn.Layer in evaluation mode, with a copy of ``weights``.

    With ``compute``, convolutions and linear layers are computed in that 16-bit type.
    """
    if compute is None:
        return populate(modules.ResNet(network), weights, dtype)
    return mix_precision(populate(MixedResNet(network, compute), weights, dtype))


def populate(model: Model, weights: Mapping[str, Array], dtype: str) -> Model:
    """Register the layers of an empty model's network, set their weights, and return the model in evaluation mode."""
    with LOCK:
        with _default_dtype(dtype), paddle.LazyGuard():
            _register(model, "", model.network.parts)
        fill(model, weights)
    model.eval()
    return model


def _make_module(part: Part) -> nn.Layer:
    match part:
        case Leaf():
            return make_layer(part)
        case Chain() if is_plain_row(part):
            named = ((names[0], _make_module(inner)) for names, inner in held_parts(part.path, part.parts))
            return nn.Sequential(*named)
        case Chain():
            chain = modules.Chain(plan_steps(part.path, part.parts))
            return _register(chain, part.path, part.written_rows[0])
        case Residual():
            block = modules.Residual(plan_residual(part))
            for row in part.written_rows:
                _register(block, part.path, row)
            return block
        case Parallel():  # held_parts lists its branches after it, and the same holder registers them
            return modules.Parallel(plan_parallel(part))
        case _:
            assert_never(part)


def _register(holder: nn.Layer, path: str, row: Row) -> nn.Layer:
    """Register a row of parts in the layer at a path, by their names relative to it; return the layer."""
    for (*outer, name), part in held_parts(path, row):
        module: Any = holder
        for step in outer:
            if step not in module._sub_layers:
                module.add_sublayer(step, nn.Layer())
            module = module._sub_layers[step]
        weight = own_weight(part)
        if weight:
            assert isinstance(part, Leaf)
            (own,) = part.op.weights(part.input_shape)
            module.add_parameter(weight, module.create_parameter(list(own.shape)))
        module.add_sublayer(name, _make_module(part))
    return holder


@contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    """Set Paddle's default dtype inside the context. Paddle's layers have no argument for it."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(getattr(paddle, dtype))
    try:
        yield
    finally:
        paddle.set_default_dtype(before)


def finds_accelerator() -> bool:
    """Return whether the framework can compute on more than the CPU."""
    return paddle.device.cuda.device_count() > 0
