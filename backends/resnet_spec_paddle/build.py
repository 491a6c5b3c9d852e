"""Build a Paddle layer from a network: its layers part by part, then its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, assert_never

import paddle
from paddle import nn

from resnet_spec.network.execution import held_parts, is_plain_row, own_weight, plan_parallel, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import rows_as_written
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle import modules
from resnet_spec_paddle.layers import make_layer
from resnet_spec_paddle.locking import LOCK
from resnet_spec_paddle.weights import fill


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """Return the network as a paddle.nn.Layer in evaluation mode, with a copy of ``weights``."""
    model = modules.ResNet(network)
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
            return _register(chain, part.path, part.parts_as_written())
        case Residual():
            block = modules.Residual(plan_residual(part))
            for row in rows_as_written(part):
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
