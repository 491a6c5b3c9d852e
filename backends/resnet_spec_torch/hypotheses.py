"""Modules that compute one of our operations in a way that a trace can't follow: guess which, and try it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from resnet_spec import ops
from resnet_spec.importing.graph import Node, Refused, Value
from resnet_spec.importing.norm_candidates import find_norm_candidates
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Op
from resnet_spec_torch.layers import make_layer
from resnet_spec_torch.trace import BATCH, Tracer

_TOLERANCE = 1e-9
_EPSILONS = (1e-5, 1e-6, 1e-8, 1e-3)

MAX_WINDOW, MAX_PAIRS = 16, 4
"""The largest window of a module without weights that is guessed, and from how many numbers."""

_PATH_DROPS = {"DropPath", "DropPath2d", "StochasticDepth"}
_BLOCK_DROPS = {"DropBlock2d", "DropBlock", "DropBlockFast2d"}


def replace_output(tracer: Tracer, module: nn.Module, args: Any, output: Any) -> Tensor | None:
    """Record a module as one operation if its calls can't be said, or if it is random in training alone.

    Return another tensor in place of the module's output where that is its input.
    """
    if len(args) < 1 or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
        return None
    x = args[0]
    if id(x) not in tracer.values or id(output) not in tracer.values:
        return None
    if output is x:
        op = _random_op(module)
        if op is None:
            return None
        alias = x.view(x.shape)
        tracer.bind(
            alias, tracer.builder.elementwise(op, tracer.values[id(x)], tracer.layer_site(type(module).__name__))
        )
        return alias
    if _is_said(tracer.values[id(output)], tracer.values[id(x)].node):
        return None
    for op in _guesses(tracer, module, x):
        value = _try(tracer, module, op, x, output)
        if value is not None:
            tracer.bind(output, value)
            break
    return None


def _is_said(value: Value, start: Node) -> bool:
    """Return whether the calls between two values are operations."""
    stack, seen = [value.node], set()
    while stack:
        node = stack.pop()
        if node.kind == "refused":
            return False
        if node is not start and id(node) not in seen:
            seen.add(id(node))
            stack += node.inputs
    return True


def _random_op(module: nn.Module) -> Op | None:
    """Return the operation of a module that returns its input in evaluation, by its class and its rate."""
    kind = type(module).__name__
    rate = next(
        (value for name in ("drop_prob", "rate", "p") if isinstance(value := getattr(module, name, None), float)), 0.0
    )
    if kind in _PATH_DROPS and rate and getattr(module, "mode", "row") == "row":
        return ops.DropPath(rate)
    if kind in _BLOCK_DROPS:
        size = next(
            (value for name in ("block_size", "size") if isinstance(value := getattr(module, name, None), int)), 7
        )
        scale = next(
            (value for name in ("gamma_scale", "scale") if isinstance(value := getattr(module, name, None), float)), 1.0
        )
        return ops.DropBlock(rate, size, scale)
    return None


def _try(tracer: Tracer, module: nn.Module, op: Op, x: Tensor, output: Tensor) -> Value | None:
    """Return the value of an operation on a module's input if it computes what the module did."""
    try:
        value = tracer.value(x)
        node = tracer.builder.node_of(value, tracer.site)
        leaf = Leaf("", op, node.shape, op.output_shape(node.shape))
        layer: Any = make_layer(leaf, torch.float64).to_empty(device="cpu")
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        needed = {weight.name: weight.shape for weight in op.weights(node.shape)}
        if any(name not in own or own[name].numel() != _count(shape) for name, shape in needed.items()):
            return None
        for name, shape in needed.items():
            getattr(layer, name).data.copy_(own[name].detach().reshape(shape))
        if isinstance(op, ops.BlurPool):
            layer = make_layer(Leaf("", op, node.shape, leaf.output_shape), torch.float64)
        result = layer.eval()(x.reshape(BATCH, *node.shape))
        if not torch.allclose(result.reshape(output.shape), output, rtol=_TOLERANCE, atol=_TOLERANCE):
            return None
        path = next(path for path, running in reversed(tracer.stack) if running is module)
        prefix = f"{path}." if path else ""
        for name, shape in needed.items():
            tracer.weights[f"{prefix}{name}"] = own[name].detach().reshape(shape).numpy().copy()
        names = {name: f"{prefix}{name}" for name in needed}
        added = tracer.builder.add(op, value, tracer.layer_site(type(module).__name__), names)
        return tracer.builder.rearrange(added, torch.arange(output[0].numel()).reshape(output.shape[1:]).numpy())
    except (Refused, ops.ShapeError, RuntimeError, AttributeError):
        return None


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _guesses(tracer: Tracer, module: nn.Module, x: Tensor) -> Iterator[Op]:
    """Yield operations that a module may be, by the names of its weights and by its numbers."""
    names = {name for name, _ in module.named_parameters()}
    numbers = [value for value in vars(module).values() if isinstance(value, int) and not isinstance(value, bool)]
    epsilons = [value for value in vars(module).values() if isinstance(value, float) and 0 < value < 0.01] or _EPSILONS
    if isinstance(module, nn.Conv2d):
        yield from _standardized(module, epsilons)
    groups = sorted({number for number in numbers if 0 < number <= x.shape[1] and x.shape[1] % number == 0})
    for epsilon in epsilons:
        yield from find_norm_candidates(names, epsilon, groups)
    if not names:
        yield from _windows(module)


def _windows(module: nn.Module) -> Iterator[Op]:
    """Yield windows without weights that a module may have, by the numbers that it holds."""
    pairs = list(dict.fromkeys(pair for value in vars(module).values() for pair in _pairs(value)))[:MAX_PAIRS]
    yield from (ops.BlurPool(stride) for stride in dict.fromkeys(stride for stride, _ in pairs))
    for kernel, stride in product(pairs, pairs):
        yield from (ops.AvgPool(kernel, stride, "same"), ops.AvgPool(kernel, stride, "same", count_padding=True))


def _pairs(value: object) -> Iterator[tuple[int, int]]:
    """Yield the pairs of small numbers in a value, of which one number stands for a pair."""
    match value:
        case bool():
            return
        case int() if 0 < value < MAX_WINDOW:
            yield value, value
        case (int(first), int(second)) if min(first, second) > 0 and max(first, second) < MAX_WINDOW:
            yield first, second
        case tuple() | list():
            for item in value:
                yield from _pairs(item)


def per_pair(value: tuple[int, ...]) -> tuple[int, int]:
    """Return a value for height and one for width, which PyTorch types as any number of them."""
    return value[0], value[-1]


def _standardized(conv: nn.Conv2d, epsilons: list[float] | tuple[float, ...]) -> Iterator[Op]:
    kernel, stride, dilation = (per_pair(value) for value in (conv.kernel_size, conv.stride, conv.dilation))
    paddings: list[Any] = [tuple(conv.padding)] if not isinstance(conv.padding, str) else [conv.padding]
    fan_in = conv.weight[0].numel()
    scaled = isinstance(getattr(conv, "gain", None), nn.Parameter)
    scale = getattr(conv, "scale", None)
    factors = [float(f"{scale * fan_in**0.5:.15g}")] if scaled and isinstance(scale, float) else [1.0]
    for padding in [*paddings, "same"]:
        for epsilon in epsilons:
            for factor in factors:
                yield ops.StandardizedConv(
                    conv.out_channels,
                    kernel,
                    stride,
                    padding,
                    dilation,
                    conv.groups,
                    conv.bias is not None,
                    epsilon,
                    scaled=scaled,
                    factor=factor,
                )
