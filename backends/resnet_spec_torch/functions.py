"""What each of PyTorch's functions is among our operations, for ``trace``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec import ops
from resnet_spec.importing.curves import PRIMITIVES
from resnet_spec.importing.graph import Node, Refused, Value
from resnet_spec.ops import Op
from resnet_spec_torch.trace import BATCH, Handler, Tracer, is_biased

HANDLERS: dict[str, Handler] = {}
"""What to record for a call, by the function's name. A handler takes the tracer and the function's arguments."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for functions of these names."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def _pair(value: Any) -> tuple[int, int]:
    items = [int(item) for item in (value if isinstance(value, tuple | list | torch.Size) else (value,))]
    if len(items) not in (1, 2):
        raise Refused("it works on other than two axes")
    return items[0], items[-1]


# -- layers with weights -----------------------------------------------------------------------------------------


@handles("conv2d")
def _conv2d(
    t: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    if padding == "valid":
        padding = 0
    op = ops.Conv(
        len(weight),
        _pair(weight.shape[2:]),
        _pair(stride),
        padding if padding == "same" else _pair(padding),
        _pair(dilation),
        groups,
        bias is not None,
    )
    if not isinstance(weight, nn.Parameter) and t.names.get(id(weight), "") in t.buffers:
        raise Refused("its kernel is no weight but a constant")
    return t.builder.add(op, t.value(x), t.site, t.weights_of(weight=weight, bias=bias))


@handles("conv1d")
def _conv1d(
    t: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    kernel = weight.shape[-1]
    plain = tuple(weight.shape[:2]) == (1, 1) and bias is None and kernel % 2 == 1 and groups == 1
    if not plain or (_pair(stride)[0], _pair(padding)[0], _pair(dilation)[0]) != (1, kernel // 2, 1):
        raise Refused("a one-dimensional convolution other than one along the channels that keeps their number")
    value = t.value(x)
    index = value.indices()
    if index.ndim != 2 or index.shape[0] != 1:
        raise Refused("a one-dimensional convolution that is not along the channels")
    vector = t.builder.rearrange(value, np.arange(index.size))
    result = t.builder.add(ops.ChannelConv(kernel), vector, t.site, t.weights_of(weight=weight))
    return t.builder.rearrange(result, np.arange(index.size).reshape(index.shape))


@handles("linear")
def _linear(t: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value:
    node, see = t.builder.channels_of(t.value(x), -1, t.site)
    op = ops.Linear(len(weight), bias is not None)
    return see(t.builder.add_op(op, node, t.site, t.weights_of(weight=weight, bias=bias)))


@handles("batch_norm")
def _batch_norm(
    t: Tracer,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    if running_mean is None or training:
        raise Refused("a batch normalisation without running statistics")
    if (weight is None) != (bias is None):
        raise Refused("a batch normalisation that has only one of scale and shift")
    module = t.stack[-1][1] if t.stack else nn.Identity()
    momentum = getattr(module, "momentum", momentum)
    if momentum is None:
        raise Refused("a batch normalisation with a cumulative average (momentum=None)")
    variance: Literal["biased", "unbiased"] = "biased" if is_biased(module) else "unbiased"
    op = ops.BatchNorm(eps, float(round(1 - momentum, 12)), variance, weight is not None, gamma=_initial(t, weight))
    value = t.value(x)
    if len(value.shape) != 3 and len(value.node.shape) != 3:
        raise Refused("a batch normalisation of features without height and width")
    names = t.weights_of(weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    node, see = t.builder.channels_of(value, 0, t.site)
    return see(t.builder.add_op(op, node, t.site, names))


def _initial(t: Tracer, weight: Tensor | None) -> float:
    """Return the initial value of a scale, of which zero is known only while it has not been trained."""
    return 0.0 if weight is not None and not bool(weight.any()) else 1.0


@handles("layer_norm")
def _layer_norm(
    t: Tracer,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    if len(normalized_shape) != 1:
        raise Refused("a layer normalisation over other axes than the channels")
    node, see = t.builder.channels_of(t.value(x), -1, t.site)
    op = ops.LayerNorm(eps, _initial(t, weight), bias is not None or weight is None, weight is not None)
    return see(t.builder.add_op(op, node, t.site, t.weights_of(weight=weight, bias=bias)))


@handles("rms_norm")
def _rms_norm(
    t: Tracer, x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Value:
    if len(normalized_shape) != 1 or weight is None or eps is None:
        raise Refused("a root mean square normalisation without a scale, an epsilon, or over other axes")
    node, see = t.builder.channels_of(t.value(x), -1, t.site)
    return see(t.builder.add_op(ops.RmsNorm(eps, _initial(t, weight)), node, t.site, t.weights_of(weight=weight)))


@handles("group_norm")
def _group_norm(
    t: Tracer,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    op = ops.GroupNorm(num_groups, eps, _initial(t, weight), 0, bias is not None or weight is None, weight is not None)
    if num_groups == x.shape[1]:
        op = ops.GroupNorm(epsilon=eps, gamma=op.gamma, size=1, bias=op.bias, affine=op.affine)
    return t.builder.add(op, t.value(x), t.site, t.weights_of(weight=weight, bias=bias))


@handles("instance_norm")
def _instance_norm(
    t: Tracer,
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if not use_input_stats:
        raise Refused("an instance normalisation with running statistics")
    return _group_norm(t, x, x.shape[1], weight, bias, eps)


@handles("prelu")
def _prelu(t: Tracer, x: Tensor, weight: Tensor) -> Value:
    op = ops.Prelu(per="channel" if weight.numel() > 1 else "all")
    return t.builder.add(op, t.value(x), t.site, t.weights_of(weight=weight))


# -- activations -------------------------------------------------------------------------------------------------

_PLAIN: dict[str, Op] = {
    "relu": ops.Relu(),
    "relu6": ops.Relu6(),
    "silu": ops.Silu(),
    "sigmoid": ops.Sigmoid(),
    "tanh": ops.Tanh(),
    "hardsigmoid": ops.HardSigmoid(),
    "hardswish": ops.HardSwish(),
}


def _add_activation(op: Op) -> Handler:
    return lambda t, x, *_, **__: t.builder.elementwise(op, t.value(x), t.site)


HANDLERS.update({name: _add_activation(op) for name, op in _PLAIN.items()})


@handles("gelu")
def _gelu(t: Tracer, x: Tensor, approximate: str = "none") -> Value:
    return t.builder.elementwise(ops.Gelu(approximate == "tanh"), t.value(x), t.site)


@handles("elu")
def _elu(t: Tracer, x: Tensor, alpha: float = 1.0) -> Value:
    if alpha != 1:
        raise Refused(f"an elu with alpha {alpha}")
    return t.builder.elementwise(ops.Elu(), t.value(x), t.site)


@handles("leaky_relu")
def _leaky_relu(t: Tracer, x: Tensor, negative_slope: float = 0.01, *_: Any) -> Value:
    return t.builder.elementwise(ops.LeakyRelu(negative_slope), t.value(x), t.site)


@handles("hardtanh", "clamp", "clip", "clamp_min", "clamp_max")
def _clamp(
    t: Tracer, x: Tensor, low: Any = None, high: Any = None, *, min: Any = None, max: Any = None, **more: Any
) -> Value:
    low = more.get("min_val", low if min is None else min)
    high = more.get("max_val", high if max is None else max)
    functions: dict[Any, Op] = {(0, None): ops.Relu(), (0, 6): ops.Relu6()}
    known = functions.get((low, high))
    if known is not None:
        return t.builder.elementwise(known, t.value(x), t.site)
    bounds = -math.inf if low is None else low, math.inf if high is None else high
    return t.builder.curve(lambda array: np.clip(array, *bounds), [t.value(x)], t.site)


def _add_curve(name: str) -> Handler:
    return lambda t, x: t.builder.curve(PRIMITIVES[name], [t.value(x)], t.site)


HANDLERS.update({name: _add_curve(name) for name in ("erf", "exp", "sqrt", "abs", "neg", "softplus", "square")})


@handles("mish")
def _mish(t: Tracer, x: Tensor) -> Value:
    raise Refused("the language has no mish")


@handles("dropout", "feature_dropout", "dropout1d")
def _dropout(t: Tracer, x: Tensor, p: float = 0.5, training: bool = True, *_: Any) -> Value:
    return t.builder.elementwise(ops.Dropout(p), t.value(x), t.site) if p else t.value(x)


@handles("dropout2d", "alpha_dropout", "dropout3d")
def _dropout2d(t: Tracer, x: Tensor, p: float = 0.5, training: bool = True, *_: Any) -> Value:
    if p:
        raise Refused("dropout of entire channels")
    return t.value(x)


# -- windows -----------------------------------------------------------------------------------------------------


@handles("max_pool2d", "_max_pool2d")
def _max_pool(
    t: Tracer,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if _pair(dilation) != (1, 1) or return_indices:
        raise Refused("a max pool with dilation or indices")
    op, value = ops.MaxPool(_pair(kernel_size), _pair(stride or kernel_size), _pair(padding), ceil_mode), t.value(x)
    if isinstance(value.node.op, ops.ZeroPad) and value.node.reason:  # minus infinity
        return t.builder.add(_with_padding(op, value.node), Value(value.node.inputs[0]), t.site)
    return t.builder.add(op, value, t.site)


def _with_padding(op: ops.MaxPool, pad: Node) -> ops.MaxPool:
    """Return a max pool that pads as a node before it does. Raises Refused."""
    assert isinstance(pad.op, ops.ZeroPad)
    margins, size = ((pad.op.top, pad.op.bottom), (pad.op.left, pad.op.right)), pad.inputs[0].shape[1:]
    paddings: tuple[Literal["same"] | tuple[int, int], ...] = ("same", (pad.op.top, pad.op.left))
    for padded in (replace(op, padding=padding) for padding in paddings if op.padding == 0 and not op.ceil):
        if ops.window_of(padded).margins(*size) == margins:
            return padded
    raise Refused("a max pool with other padding than the language has")


@handles("avg_pool2d")
def _avg_pool(
    t: Tracer,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Value:
    if divisor_override is not None:
        raise Refused("an average pool with another divisor")
    kernel, stride, padding = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding)
    op = ops.AvgPool(kernel, stride, padding, ceil_mode, count_include_pad and any(padding))
    return t.builder.add(op, t.value(x), t.site)


@handles("adaptive_avg_pool2d")
def _adaptive_avg_pool(t: Tracer, x: Tensor, output_size: Any) -> Value:
    if _pair(output_size) == (1, 1):
        return t.builder.add(ops.GlobalAvgPool(keepdims=True), t.value(x), t.site)
    return t.builder.add(ops.AdaptiveAvgPool(_pair(output_size)), t.value(x), t.site)


@handles("adaptive_max_pool2d")
def _adaptive_max_pool(t: Tracer, x: Tensor, output_size: Any, return_indices: bool = False) -> Value:
    if _pair(output_size) != (1, 1):
        raise Refused("an adaptive max pool to more than one pixel")
    return t.builder.add(ops.GlobalMaxPool(keepdims=True), t.value(x), t.site)


@handles("interpolate", "upsample")
def _interpolate(
    t: Tracer,
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Value:
    shape = t.value(x).shape
    target = (
        _pair(size)
        if size is not None
        else tuple(int(side * factor) for side, factor in zip(shape[1:], _factors(scale_factor), strict=True))
    )
    factor = target[0] // shape[1]
    if mode == "nearest" and min(target) > 0:
        rows, columns = (np.arange(size) * side // size for size, side in zip(target, shape[1:], strict=True))
        index = np.arange(math.prod(shape)).reshape(shape)[:, rows][:, :, columns]
        return t.builder.rearrange(t.value(x), index, t.site)
    if mode not in ("nearest", "nearest-exact", "bilinear") or align_corners or antialias:
        raise Refused(f"interpolation with mode={mode!r}, align_corners={align_corners}")
    if tuple(target) != (shape[1] * factor, shape[2] * factor) or factor < 1:
        raise Refused("interpolation by a factor that is no integer")
    if factor == 1:
        return t.value(x)
    return t.builder.add(ops.Upsample(factor, "bilinear" if mode == "bilinear" else "nearest"), t.value(x), t.site)


def _factors(scale: Any) -> tuple[float, float]:
    return (scale[0], scale[-1]) if isinstance(scale, tuple | list) else (scale, scale)


@handles("pad")
def _pad(t: Tracer, x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    margins = [int(margin) for margin in pad] + [0] * (6 - len(pad))
    if mode != "constant" or value not in (None, 0, 0.0, -math.inf) or len(margins) > 6 or min(margins) < 0:
        raise Refused(f"padding with mode={mode!r}, value={value}")
    left, right, top, bottom, before, after = margins
    result = t.value(x)
    if value == -math.inf:
        return _infinite_pad(t, result, ops.ZeroPad(top, bottom, left, right), is_map=not (before or after))
    if any(margins[:4]) or not (before or after):  # no zeros at one size may be some at another
        result = t.builder.add(ops.ZeroPad(top, bottom, left, right), result, t.site)
    return t.builder.add(ops.PadChannels(before, after), result, t.site) if before or after else result


def _infinite_pad(t: Tracer, value: Value, op: ops.ZeroPad, is_map: bool) -> Value:
    """Add a padding with minus infinity. Its reason refuses it in the end, unless max pools alone read it."""
    node = t.builder.node_of(value, t.site)
    if not is_map or len(node.shape) != 3:
        raise Refused("padding of other axes than height and width with minus infinity")
    reason = "padding with minus infinity that something else than a max pool reads"
    return Value(Node("op", (node,), op.output_shape(node.shape), t.site, op=op, reason=reason))


# -- arithmetic --------------------------------------------------------------------------------------------------


def _number(t: Tracer, value: object, x: Tensor) -> float | None:
    """Return a constant as a number, which a tensor in the shape of another may repeat."""
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, Tensor) or not value.numel() or not t.is_constant(value):
        return None
    if torch.broadcast_shapes(value.shape, x.shape) != x.shape or not bool((value == value.flatten()[0]).all()):
        return None
    return float(value.flatten()[0])


def _learned(t: Tracer, x: Tensor, weight: Tensor, op: Callable[..., Op]) -> Value:
    """Add a learned factor or summand, with one number per channel or for all."""
    value = t.value(x)
    own = t.tensors.get(t.names.get(id(weight), ""), weight)
    name = t.weight(weight, own.shape)
    if name in t.buffers:
        raise Refused(f"it reads the buffer {name}, and the factors and summands of a spec are trained")
    if weight.numel() == 1:
        keepdims = own.ndim == 1
        if own.ndim > 1:
            raise Refused(f"a weight of shape {tuple(own.shape)}, of which the language knows () and (1,)")
        names = {"": name}
        return t.builder.elementwise_with(op(per="all", keepdims=keepdims), value, t.site, names)
    axes = [axis for axis, size in enumerate(weight.shape, x.ndim - weight.ndim) if size > 1]
    if len(axes) != 1:
        raise Refused("a weight that is not one number per channel or one for all")
    node, see = t.builder.channels_of(value, t.axis(axes[0], x.ndim), t.site)
    if len(own) != node.shape[0]:
        name = t.weight(weight, (node.shape[0], *[1] * (len(node.shape) - 1)))
    keepdims = t.weights[name].ndim > 1
    return see(t.builder.add_op(op(keepdims=keepdims), node, t.site, {"": name}))


@handles("mul", "multiply")
def _mul(t: Tracer, x: Any, other: Any) -> Value:
    if not t.is_traced(x):
        x, other = other, x
    if (factor := _number(t, other, x)) is not None:
        return t.builder.curve(lambda array: array * factor, [t.value(x)], t.site)
    if not t.is_traced(other):
        return _learned(t, x, other, ops.Scale)
    return t.builder.merge("multiply", [t.value(x), t.value(other)], t.site)


@handles("div", "true_divide", "truediv")
def _div(t: Tracer, x: Any, other: Any, **_: Any) -> Value:
    if (divisor := _number(t, other, x)) is not None:
        return t.builder.curve(lambda array: array / divisor, [t.value(x)], t.site)
    return t.builder.curve(lambda a, b: a / b, [t.value(x), t.value(other)], t.site)


@handles("rdiv", "reciprocal")
def _rdiv(t: Tracer, x: Any, other: Any = 1.0) -> Value:
    dividend = _number(t, other, x)
    if dividend is None:
        raise Refused("a division by a value that depends on the images")
    return t.builder.curve(lambda array: dividend / array, [t.value(x)], t.site)


def _scaled(t: Tracer, x: Any, factor: float) -> Any:
    """Return a number or a tensor times a factor; the tensor's product is recorded."""
    if not isinstance(x, Tensor):
        return x * factor
    with torch._C.DisableTorchFunction():
        product = x * factor
    t.bind(product, t.builder.scale(t.value(x), factor, t.site))
    return product


@handles("add")
def _add(t: Tracer, x: Any, other: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        return _add(t, x, _scaled(t, other, alpha))
    if not t.is_traced(x):
        x, other = other, x
    if (summand := _number(t, other, x)) is not None:
        return t.value(x) if summand == 0 else t.builder.curve(lambda array: array + summand, [t.value(x)], t.site)
    if not t.is_traced(other):
        return _learned(t, x, other, ops.Shift)
    return t.builder.merge("add", [t.value(x), t.value(other)], t.site)


@handles("sub", "subtract")
def _sub(t: Tracer, x: Any, other: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        return _sub(t, x, _scaled(t, other, alpha))
    if (number := _number(t, other, x)) is not None:
        return t.builder.curve(lambda array: array - number, [t.value(x)], t.site)
    return t.builder.merge("subtract", [t.value(x), t.value(other)], t.site)


@handles("rsub")
def _rsub(t: Tracer, x: Tensor, other: Any) -> Value:
    number = _number(t, other, x)
    if number is None:
        return _sub(t, other, x)
    return t.builder.curve(lambda array: number - array, [t.value(x)], t.site)


_COMPARISONS = {"gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal}


def _compare(function: Callable[..., Any]) -> Handler:
    def handler(t: Tracer, x: Any, other: Any) -> Value:
        number = _number(t, other, x)
        if number is None:
            raise Refused("a comparison of two values that depend on the images")
        return t.builder.curve(lambda array: function(array, number).astype(np.float64), [t.value(x)], t.site)

    return handler


HANDLERS.update({name: _compare(function) for name, function in _COMPARISONS.items()})


@handles("where")
def _where(t: Tracer, condition: Tensor, x: Any, other: Any) -> Value:
    numbers = [_number(t, item, condition) for item in (x, other)]
    values = [t.value(item) for item, number in zip((x, other), numbers, strict=True) if number is None]

    def choose(chosen: Any, *arrays: Any) -> Any:
        rest = list(arrays)
        pair = [rest.pop(0) if number is None else number for number in numbers]
        return np.where(chosen != 0, *pair)

    return t.builder.curve(choose, [t.value(condition), *values], t.site)


@handles("maximum", "minimum")
def _extreme(t: Tracer, x: Tensor, other: Tensor) -> Value:
    function = np.maximum if "max" in t.site.operation else np.minimum
    if not t.is_traced(x):
        x, other = other, x
    if (bound := _number(t, other, x)) is not None:
        return t.builder.curve(lambda array: function(array, bound), [t.value(x)], t.site)
    return t.builder.curve(lambda a, b: function(a, b), [t.value(x), t.value(other)], t.site)


@handles("pow")
def _pow(t: Tracer, x: Tensor, exponent: Any) -> Value:
    number = _number(t, exponent, x)
    if number is None:
        raise Refused("a power that is no number")
    return t.builder.curve(lambda array: np.power(array, number), [t.value(x)], t.site)


@handles("cat", "concat", "concatenate")
def _cat(t: Tracer, tensors: Sequence[Tensor], dim: int = 0) -> Value:
    if len(tensors) == 1:
        return t.value(tensors[0])
    if t.axis(dim, tensors[0].ndim):
        raise Refused("a concatenation along another axis than the channels")
    return t.builder.merge("concat", [t.value(tensor) for tensor in tensors], t.site)


@handles("stack")
def _stack(t: Tracer, tensors: Sequence[Tensor], dim: int = 0) -> Value:
    if dim % (tensors[0].ndim + 1) == 0:  # a sum or a mean over this axis may follow
        values = [t.value(tensor) for tensor in tensors]
        stacked = t.builder.refuse(values, values[0].shape, t.site, "a stack along the batch axis")
        t.stacks[id(stacked.node)] = values
        return stacked
    if t.axis(dim, tensors[0].ndim + 1):
        raise Refused("a stack along another axis than the channels")
    joined = t.builder.merge("concat", [t.value(tensor) for tensor in tensors], t.site)
    shape = len(tensors), *tensors[0].shape[1:]
    return t.builder.rearrange(joined, np.arange(math.prod(shape)).reshape(shape))


# -- reductions --------------------------------------------------------------------------------------------------


def _reduce(kind: Literal["mean", "max", "sum"]) -> Handler:
    def handler(t: Tracer, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Value | list[Value]:
        axes = range(1, x.ndim) if dim is None else (dim if isinstance(dim, tuple | list) else (dim,))
        stacked = t.stacks.get(id(t.value(x).node))
        if stacked is not None and kind != "max" and not keepdim and [*axes] in ([0], [-x.ndim]):
            total = t.builder.merge("add", stacked, t.site)
            return [total if kind == "sum" else t.builder.scale(total, 1 / len(stacked), t.site)]
        value = t.builder.reduce(kind, t.value(x), [t.axis(axis, x.ndim) for axis in axes], keepdim, t.site)
        return [value]

    return handler


HANDLERS.update({"mean": _reduce("mean"), "sum": _reduce("sum"), "amax": _reduce("max"), "max": _reduce("max")})
_max_over_axes = HANDLERS["max"]


@handles("max")
def _max(t: Tracer, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    is_pair = bool(args) and isinstance(args[0], Tensor)
    return _extreme(t, x, args[0]) if is_pair else _max_over_axes(t, x, *args, **kwargs)


@handles("softmax")
def _softmax(t: Tracer, x: Tensor, dim: int = -1, *_: Any, **__: Any) -> Value:
    return t.builder.softmax(t.value(x), t.axis(dim, x.ndim), t.site)


@handles("log_softmax")
def _log_softmax(t: Tracer, x: Tensor, *_: Any, **__: Any) -> Value:
    raise Refused("a logarithm of a softmax; specs end with scores, so import the part before it")


# -- rearrangements ----------------------------------------------------------------------------------------------


def _rearrange(function: Callable[..., Any]) -> Handler:
    return lambda t, x, *args, **kwargs: t.rearranged(lambda index: function(index, *args, **kwargs), x)


_METHODS = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "contiguous", "clone", "detach"),
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
    *(
        "index_select",
        "repeat_interleave",
        "chunk",
        "unsafe_chunk",
        "split",
        "tensor_split",
        "unbind",
        "narrow",
        "select",
    ),
)

HANDLERS.update({name: _rearrange(getattr(Tensor, name)) for name in _METHODS if hasattr(Tensor, name)})
HANDLERS.update(dict.fromkeys(("alias", "to", "double", "type", "type_as"), lambda t, x, *_, **__: t.value(x)))
HANDLERS["channel_shuffle"] = _rearrange(functional.channel_shuffle)
HANDLERS["pixel_unshuffle"] = _rearrange(functional.pixel_unshuffle)
HANDLERS["roll"] = _rearrange(torch.roll)
HANDLERS["flip"] = _rearrange(torch.flip)


@handles("getitem")
def _getitem(t: Tracer, x: Tensor, key: Any) -> Value:
    keys = key if isinstance(key, tuple) else (key,)
    if any(isinstance(item, Tensor) for item in keys):
        raise Refused("an index that is a tensor")
    return t.rearranged(lambda index: index[key], x)


@handles("setitem")
def _setitem(t: Tracer, x: Tensor, key: Any, value: Any) -> Value:
    raise Refused("an assignment to a part of a tensor")


@handles("expand_as", "view_as", "reshape_as")
def _like(t: Tracer, x: Tensor, other: Tensor) -> Value:
    return t.rearranged(
        lambda index: (
            index.expand(BATCH, *other.shape[1:]) if index.numel() != other.numel() else index.reshape(other.shape)
        ),
        x,
    )
