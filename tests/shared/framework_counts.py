"""Parameters, multiplications and shapes as each framework reports them for a model, which is traced, not run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from resnet_spec import build
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape

BATCH = 2


class Counted(NamedTuple):
    """MACs for one image; shapes given by every part, with the batch, channels before height and width."""

    parameters: int
    statistics: int
    macs: float
    shapes: dict[str, Shape]


def counted(network: Network, backend: str) -> Counted:
    """A network built in a framework, and counted by it."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in network.weights().items()}
    model = build(network, backend=backend, weights=zeros, dtype="float32")
    return {"torch": _torch, "paddle": _paddle, "flax": _flax}[backend](network, model)


def _torch(network: Network, model: Any) -> Counted:
    """FlopCounterMode's count, halved, of the model on torch's meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = model.to("meta")
    shapes: dict[str, Shape] = {}
    for path in _paths(network):
        model.get_submodule(path).register_forward_hook(_keep(shapes, path))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(BATCH, *network.input, device="meta"))
    statistics = [buffer.numel() for name, buffer in model.named_buffers() if "running" in name]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Counted(parameters, sum(statistics), counter.get_total_flops() / 2 / BATCH, shapes)


def _paddle(network: Network, model: Any) -> Counted:
    """Convolutions and matrix products of the static program that Paddle makes of the model."""
    import paddle

    from resnet_spec_paddle.weights import get_sublayer

    shapes: dict[str, Shape] = {}
    for path in _paths(network):
        get_sublayer(model, path).register_forward_post_hook(_keep(shapes, path))
    given = paddle.static.InputSpec([BATCH, *network.input], "float32")
    traced = paddle.jit.to_static(model, input_spec=[given], full_graph=True)
    macs = 0
    for op in traced.forward.concrete_program.main_program.global_block().ops:
        if "conv2d" in op.name():
            macs += math.prod(op.result(0).shape) * math.prod(op.operand_source(1).shape[1:])
        elif op.name() == "pd_op.matmul":
            macs += math.prod(op.result(0).shape) * op.operand_source(0).shape[-1]
    parameters = sum(math.prod(one.shape) for one in model.parameters() if not one.stop_gradient)
    statistics = sum(math.prod(one.shape) for one in model.parameters() if one.stop_gradient)
    for one in model.parameters():
        one._clear_data()  # Paddle keeps what it has traced: hundreds of networks' weights would fill the memory
    return Counted(parameters, statistics, macs / BATCH, shapes)


def _flax(network: Network, model: Any) -> Counted:
    """Convolutions and matrix products of the jaxpr that JAX makes of the model."""
    import jax
    from flax import nnx

    from resnet_spec_flax.modules import call_part

    shapes: dict[str, Shape] = {}

    def see(path: str, x: Any) -> Any:
        shapes[path] = (x.shape[0], x.shape[3], *x.shape[1:3]) if x.ndim == 4 else x.shape
        return x

    channels, *size = network.input
    images = jax.ShapeDtypeStruct((BATCH, *size, channels), np.float32)
    traced = jax.make_jaxpr(lambda x: call_part(model, x, see))(images)
    wanted = set(_paths(network))
    parameters, statistics = (
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, kind))) for kind in (nnx.Param, nnx.BatchStat)
    )
    shapes = {path: shape for path, shape in shapes.items() if path in wanted}
    return Counted(parameters, statistics, sum(_products(traced.jaxpr)) / BATCH, shapes)


def _products(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        gives = math.prod(equation.outvars[0].aval.shape)
        one, *others = (variable.aval.shape for variable in equation.invars)
        if equation.primitive.name == "conv_general_dilated":
            (kernel,) = others
            yield gives * math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            yield gives * math.prod(one[axis] for axis in contracted)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def _paths(network: Network) -> list[str]:
    return [part.path for part in network.nodes()]


def _keep(shapes: dict[str, Shape], path: str) -> Any:
    return lambda layer, given, output: shapes.__setitem__(path, tuple(output.shape))
