"""Parameters, multiplications and shapes as each framework reports them for a model, which is traced, not run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from resnet_spec import build
from resnet_spec.network.execution import own_weight
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape

BATCH = 2


class FrameworkCounts(NamedTuple):
    """MACs for one image, and the output shape of each part: (batch, channels, height, width).

    An operation whose weight has its own name is left out, because the weight, not a module, is found at its path.
    """

    parameters: int
    statistics: int
    macs: float
    shapes: dict[str, Shape]


def count_in_framework(network: Network, backend: str) -> FrameworkCounts:
    """Build a network in a framework, and return what the framework counts."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in network.weights().items()}
    model = build(network, backend=backend, weights=zeros, dtype="float32")
    return {"torch": _count_in_torch, "paddle": _count_in_paddle, "flax": _count_in_flax}[backend](network, model)


def _count_in_torch(network: Network, model: Any) -> FrameworkCounts:
    """Count MACs as half of FlopCounterMode's operations, with the model on torch's meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = model.to("meta")
    shapes: dict[str, Shape] = {}
    for path in _list_paths(network):
        model.get_submodule(path).register_forward_hook(_make_hook(shapes, path))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(BATCH, *network.input, device="meta"))
    statistics = [buffer.numel() for name, buffer in model.named_buffers() if "running" in name]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return FrameworkCounts(parameters, sum(statistics), counter.get_total_flops() / 2 / BATCH, shapes)


def _count_in_paddle(network: Network, model: Any) -> FrameworkCounts:
    """Count MACs of the convolutions and matrix products in the static program that Paddle traces."""
    import paddle

    from resnet_spec_paddle.weights import get_sublayer

    shapes: dict[str, Shape] = {}
    for path in _list_paths(network):
        get_sublayer(model, path).register_forward_post_hook(_make_hook(shapes, path))
    images = paddle.static.InputSpec([BATCH, *network.input], "float32")
    traced = paddle.jit.to_static(model, input_spec=[images], full_graph=True)
    macs = 0
    for op in traced.forward.concrete_program.main_program.global_block().ops:
        if "conv2d" in op.name():
            macs += math.prod(op.result(0).shape) * math.prod(op.operand_source(1).shape[1:])
        elif op.name() == "pd_op.matmul":
            macs += math.prod(op.result(0).shape) * op.operand_source(0).shape[-1]
    parameters = sum(math.prod(tensor.shape) for tensor in model.parameters() if not tensor.stop_gradient)
    statistics = sum(math.prod(tensor.shape) for tensor in model.parameters() if tensor.stop_gradient)
    for tensor in model.parameters():
        tensor._clear_data()  # Paddle keeps traced programs, so the weights of hundreds of networks would fill memory
    return FrameworkCounts(parameters, statistics, macs / BATCH, shapes)


def _count_in_flax(network: Network, model: Any) -> FrameworkCounts:
    """Count MACs of the convolutions and matrix products in the jaxpr that JAX traces."""
    import jax
    from flax import nnx

    from resnet_spec_flax.modules import call_part

    shapes: dict[str, Shape] = {}

    def hook(path: str, x: Any) -> Any:
        shapes[path] = (x.shape[0], x.shape[3], *x.shape[1:3]) if x.ndim == 4 else x.shape
        return x

    channels, *size = network.input
    images = jax.ShapeDtypeStruct((BATCH, *size, channels), np.float32)
    traced = jax.make_jaxpr(lambda x: call_part(model, x, hook))(images)
    paths = set(_list_paths(network))
    parameters, statistics = (
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, kind))) for kind in (nnx.Param, nnx.BatchStat)
    )
    shapes = {path: shape for path, shape in shapes.items() if path in paths}
    return FrameworkCounts(parameters, statistics, sum(_count_products(traced.jaxpr)) / BATCH, shapes)


def _count_products(jaxpr: Any) -> Iterator[int]:
    """Yield the MACs of each convolution and matrix product in a jaxpr, and in those inside it."""
    for equation in jaxpr.eqns:
        outputs = math.prod(equation.outvars[0].aval.shape)
        first, *others = (variable.aval.shape for variable in equation.invars)
        if equation.primitive.name == "conv_general_dilated":
            (kernel,) = others
            yield outputs * math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            yield outputs * math.prod(first[axis] for axis in contracted)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _count_products(inner)


def _list_paths(network: Network) -> list[str]:
    return [part.path for part in network.nodes() if not own_weight(part)]


def _make_hook(shapes: dict[str, Shape], path: str) -> Any:
    return lambda layer, inputs, output: shapes.__setitem__(path, tuple(output.shape))
