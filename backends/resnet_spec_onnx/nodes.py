"""What each of ONNX's operators is among our operations, for ``foreign``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from resnet_spec import ops
from resnet_spec.importing.curves import PRIMITIVES
from resnet_spec.importing.graph import Node, Refused, Site, Value
from resnet_spec.ops import Op
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.foreign import Call, Reader

Handler = Callable[[Reader, Call], Any]
HANDLERS: dict[str, Handler] = {}

_PLAIN: dict[str, Op] = {
    "Relu": ops.Relu(),
    "Sigmoid": ops.Sigmoid(),
    "Tanh": ops.Tanh(),
    "HardSwish": ops.HardSwish(),
    "Swish": ops.Silu(),
}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for operators of these names."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


# -- layers with weights -----------------------------------------------------------------------------------------


def _weights(r: Reader, call: Call, arrays: dict[str, Array], positions: dict[str, int]) -> dict[str, str]:
    """Record weights under the names of their layer; return them by our names."""
    names = {own: call.names[index] for own, index in positions.items() if index < len(call.names)}
    layer = r.layer_name(names)
    return {own: r.weight(layer, own, array) for own, array in arrays.items()}


def _constant(call: Call, index: int) -> Array:
    array = call.constant(index)
    if array is None:
        raise Refused("an argument is missing")
    return array


def _number(array: Array) -> float:
    """Return a constant as a number; one that a file holds in float32 with the fewest digits that mean it."""
    number = float(array.reshape(()))
    return ops.shortest_decimal(number) if array.dtype == np.float32 and math.isfinite(number) else number


@handles("Conv")
def _conv(r: Reader, call: Call) -> Value:
    kernel = _constant(call, 1)
    bias = call.constant(2)
    value = call.value()
    if kernel.ndim == 3:
        return _channel_conv(r, call, kernel, value, bias)
    if kernel.ndim != 4:
        raise Refused("a convolution over other than two axes")
    strides, dilations = call.get("strides", [1, 1]), call.get("dilations", [1, 1])
    pads = _pads(call, kernel.shape[2:])
    value, padding = _padding(r, value, kernel.shape[2:], strides, dilations, pads)
    op = ops.Conv(
        len(kernel),
        _pair(kernel.shape[2:]),
        _pair(strides),
        padding,
        _pair(dilations),
        int(call.get("group", 1)),
        bias is not None,
    )
    arrays = {"weight": kernel, **({} if bias is None else {"bias": bias})}
    return r.builder.add(op, value, r.site, _weights(r, call, arrays, {"weight": 1, "bias": 2}))


def _channel_conv(r: Reader, call: Call, kernel: Array, value: Value, bias: Array | None) -> Value:
    size, pads = kernel.shape[2], list(call.get("pads", [0, 0]))
    if (
        kernel.shape[:2] != (1, 1)
        or bias is not None
        or pads != [size // 2] * 2
        or len(value.shape) != 2
        or (len(value.shape) and value.shape[0] != 1)
    ):
        raise Refused("a one-dimensional convolution other than one along the channels that keeps their number")
    count = value.shape[1]
    vector = r.builder.rearrange(value, np.arange(count))
    result = r.builder.add(ops.ChannelConv(size), vector, r.site, _weights(r, call, {"weight": kernel}, {"weight": 1}))
    return r.builder.rearrange(result, np.arange(count).reshape(1, count))


@handles("Gemm")
def _gemm(r: Reader, call: Call) -> Value:
    weight, bias = _constant(call, 1), call.constant(2)
    if call.get("transA", 0):
        raise Refused("a product with the transpose of what depends on the images")
    weight = (weight if call.get("transB", 0) else weight.T) * np.asarray(call.get("alpha", 1.0), weight.dtype)
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), len(weight)) * np.asarray(call.get("beta", 1.0), bias.dtype)
    return _add_linear(r, call, weight, bias)


@handles("MatMul")
def _matmul(r: Reader, call: Call) -> Value:
    weight = _constant(call, 1)
    if weight.ndim != 2:
        raise Refused("a matrix product with other than a matrix of weights")
    return _add_linear(r, call, weight.T, None)


def _add_linear(r: Reader, call: Call, weight: Array, bias: Array | None) -> Value:
    node, see = r.builder.channels_of(call.value(), -1, r.site)
    arrays = {"weight": np.ascontiguousarray(weight), **({} if bias is None else {"bias": bias.reshape(-1)})}
    names = _weights(r, call, arrays, {"weight": 1, "bias": 2})
    return see(r.builder.add_op(ops.Linear(len(weight), bias is not None), node, r.site, names))


@handles("BatchNormalization")
def _batch_norm(r: Reader, call: Call) -> Value:
    if call.get("training_mode", 0):
        raise Refused("a batch normalisation in training mode")
    own = ("weight", "bias", "running_mean", "running_var")
    arrays = {name: _constant(call, index) for index, name in enumerate(own, 1)}
    positions = {name: index for index, name in enumerate(own, 1)}
    op = ops.BatchNorm(float(call.get("epsilon", 1e-5)), gamma=1.0 if arrays["weight"].any() else 0.0)
    node, see = r.builder.channels_of(call.value(), 0, r.site)
    return see(r.builder.add_op(op, node, r.site, _weights(r, call, arrays, positions)))


@handles("InstanceNormalization")
def _instance_norm(r: Reader, call: Call) -> Value:
    scale, shift, value = _constant(call, 1), _constant(call, 2), call.value()
    epsilon, groups = float(call.get("epsilon", 1e-5)), value.shape[0]
    is_plain = bool((scale == 1).all() and (shift == 0).all())
    if value.index is None:
        op = ops.GroupNorm(epsilon=epsilon, size=1, affine=not is_plain)
        arrays = {} if is_plain else {"weight": scale, "bias": shift}
        return r.builder.add(op, value, r.site, _weights(r, call, arrays, {"weight": 1, "bias": 2}))
    shape = value.node.shape
    if not is_plain or not np.array_equal(value.index.reshape(-1), np.arange(math.prod(shape))):
        raise Refused("an instance normalisation of rearranged channels")
    result = r.builder.add_op(ops.GroupNorm(groups, epsilon, affine=False), value.node, r.site)
    return Value(result, value.index)


@handles("LayerNormalization")
def _layer_norm(r: Reader, call: Call) -> Value:
    scale, shift, value = _constant(call, 1), call.constant(2), call.value()
    if call.get("axis", -1) not in (-1, len(value.shape)):
        raise Refused("a layer normalisation over other axes than the last")
    node, see = r.builder.channels_of(value, -1, r.site)
    is_plain = shift is None and bool((scale == 1).all())
    arrays = {} if is_plain else {"weight": scale, **({} if shift is None else {"bias": shift})}
    op = ops.LayerNorm(float(call.get("epsilon", 1e-5)), bias=shift is not None or is_plain, affine=not is_plain)
    return see(r.builder.add_op(op, node, r.site, _weights(r, call, arrays, {"weight": 1, "bias": 2})))


@handles("GroupNormalization")
def _group_norm(r: Reader, call: Call) -> Value:
    scale, shift, groups = _constant(call, 1), _constant(call, 2), int(call.get("num_groups"))
    value = call.value()
    channels = value.shape[0]
    if len(scale) != channels:  # before opset 21 there is one number per group
        scale, shift = np.repeat(scale, channels // groups), np.repeat(shift, channels // groups)
    op = ops.GroupNorm(groups, float(call.get("epsilon", 1e-5)))
    return r.builder.add(
        op, value, r.site, _weights(r, call, {"weight": scale, "bias": shift}, {"weight": 1, "bias": 2})
    )


@handles("PRelu")
def _prelu(r: Reader, call: Call) -> Value:
    shape, slope = call.value().shape, _constant(call, 1).reshape(-1)
    if slope.size not in (1, shape[0]):
        raise Refused("a PRelu with other than one slope per channel or one for all")
    op = ops.Prelu(per="channel" if slope.size > 1 else "all")
    return r.builder.add(op, call.value(), r.site, _weights(r, call, {"weight": slope}, {"weight": 1}))


# -- functions of each element -----------------------------------------------------------------------------------


def _add_plain(op: Op) -> Handler:
    return lambda r, call: r.builder.elementwise(op, call.value(), r.site)


HANDLERS.update({name: _add_plain(op) for name, op in _PLAIN.items()})


def _add_curve(name: str) -> Handler:
    return lambda r, call: r.builder.curve(PRIMITIVES[name], [call.value()], r.site)


HANDLERS.update({name: _add_curve(name.lower()) for name in ("Erf", "Exp", "Sqrt", "Abs", "Neg", "Softplus")})


@handles("LeakyRelu")
def _leaky_relu(r: Reader, call: Call) -> Value:
    return r.builder.elementwise(ops.LeakyRelu(float(call.get("alpha", 0.01))), call.value(), r.site)


@handles("Elu")
def _elu(r: Reader, call: Call) -> Value:
    if call.get("alpha", 1.0) != 1.0:
        raise Refused("an Elu with alpha")
    return r.builder.elementwise(ops.Elu(), call.value(), r.site)


@handles("Gelu")
def _gelu(r: Reader, call: Call) -> Value:
    return r.builder.elementwise(ops.Gelu(call.get("approximate", "none") == "tanh"), call.value(), r.site)


@handles("HardSigmoid")
def _hard_sigmoid(r: Reader, call: Call) -> Value:
    alpha, beta = float(call.get("alpha", 0.2)), float(call.get("beta", 0.5))
    return r.builder.curve(lambda x: np.clip(alpha * x + beta, 0, 1), [call.value()], r.site)


@handles("Clip")
def _clip(r: Reader, call: Call) -> Value:
    low, high = (call.constant(index) for index in (1, 2))
    bounds = (call.get("min") if low is None else float(low)), (call.get("max") if high is None else float(high))
    functions: dict[Any, Op] = {(0.0, None): ops.Relu(), (0.0, 6.0): ops.Relu6()}
    known = functions.get(bounds)
    if known is not None:
        return r.builder.elementwise(known, call.value(), r.site)
    least, most = -math.inf if bounds[0] is None else bounds[0], math.inf if bounds[1] is None else bounds[1]
    return r.builder.curve(lambda x: np.clip(x, least, most), [call.value()], r.site)


@handles("Max", "Min")
def _extreme(r: Reader, call: Call) -> Value:
    bound = call.constant(1)
    if bound is None or bound.size != 1:
        raise Refused("a maximum or minimum of values")
    function = np.maximum if call.node.op_type == "Max" else np.minimum
    return r.builder.curve(lambda x: function(x, _number(bound)), [call.value()], r.site)


@handles("Pow")
def _pow(r: Reader, call: Call) -> Value:
    exponent = _number(_constant(call, 1))
    return r.builder.curve(lambda x: np.power(x, exponent), [call.value()], r.site)


@handles("Identity", "Cast")
def _identity(r: Reader, call: Call) -> Value:
    return call.value()


@handles("Dropout")
def _dropout(r: Reader, call: Call) -> list[Value]:
    return [call.value()]


# -- arithmetic --------------------------------------------------------------------------------------------------


def _operands(call: Call) -> tuple[Value, Value | Array]:
    """Return two operands, of which the first depends on the images."""
    first, second = call.inputs[:2]
    if isinstance(first, Value):
        assert second is not None
        return first, second
    assert isinstance(second, Value) and first is not None
    return second, first


def _is_own_weight(r: Reader, name: str) -> bool:
    """Return whether an initializer is named as a factor or a summand that is a layer of its own."""
    if name.endswith(("/factor", "/summand")):  # this project's files
        return r.model.constants[name].ndim > 0
    is_path = name in r.model.constants and "." in name and not {"/", ":"} & set(name)
    return is_path and name.rpartition(".")[2] not in ("bias", "b_0")


def _number_for_all(r: Reader, call: Call, value: Value, array: Array, op: Callable[..., Op]) -> Value | None:
    """Add a learned factor or summand that is one for all channels; return None if it is a constant."""
    name = next(name for name, item in zip(call.names, call.inputs, strict=True) if not isinstance(item, Value))
    if not _is_own_weight(r, name):
        return None
    weight = r.weight(_own_path(r, name), "", array.reshape(()))
    return r.builder.elementwise_with(op(per="all"), value, r.site, {"": weight})


def _own_path(r: Reader, name: str) -> str:
    return r.layer_name({"": name}) if "/" in name else name


def _channels(r: Reader, value: Value, array: Array) -> tuple[Node, Callable[[Node], Value]]:
    """Return a node whose channels an array has a number for, and how to see its successor. Raises Refused."""
    axes = [axis for axis, size in enumerate(array.shape, len(value.shape) + 1 - array.ndim) if size > 1]
    if len(axes) != 1:
        raise Refused("a constant that is not one number per channel or one for all")
    return r.builder.channels_of(value, r.axis(axes[0], len(value.shape) + 1), r.site)


def _centred(r: Reader, value: Value, mean: Array) -> Value:
    """Add a normalisation for a difference, which takes the factors and summands behind it: as Keras exports norms."""
    node, see = _channels(r, value, mean)
    if len(node.shape) != 3:
        raise Refused("a difference of features and a constant for each")
    ones = np.ones(mean.size, mean.dtype)
    return see(_add_norm(r, node, r.site, weight=ones, bias=0 * ones, running_mean=mean.reshape(-1)))


def _add_norm(r: Reader, node: Node, site: Site, **arrays: Array) -> Node:
    """Add a batch normalisation whose variance and epsilon are 1 together."""
    op = ops.BatchNorm()
    arrays["running_var"] = np.full(arrays["weight"].shape, 1 - op.epsilon, np.float64)
    layer = f"@{len(r.weights)}"
    return r.builder.add_op(op, node, site, {own: r.weight(layer, own, array) for own, array in arrays.items()})


def _per_channel(r: Reader, call: Call, value: Value, array: Array, op: Callable[..., Op]) -> Value:
    """Add a factor or summand with one number per channel, which may belong to the layer before."""
    node, see = _channels(r, value, array)
    vector = array.reshape(-1)
    name = next(name for name, item in zip(call.names, call.inputs, strict=True) if not isinstance(item, Value))
    own = "weight" if op is ops.Scale else "bias"
    is_own = _is_own_weight(r, name)
    merged = _merged(r, node, vector, own, name, is_own)
    if merged is not None:
        return see(merged)
    layer = _own_path(r, name) if is_own else r.layer_name({own: name})
    return see(r.builder.add_op(op(), node, r.site, {"": r.weight(layer, "", vector)}))


def _merged(r: Reader, node: Node, vector: Array, own: str, name: str, is_own: bool) -> Node | None:
    """Return a layer with a factor or a summand that stands behind it, if it has a place for it.

    A convolution does not take a summand that ``is_own``: one with a name of its own.
    """
    op: Any = node.op
    if isinstance(op, ops.BatchNorm) and node.weights["weight"].startswith("@"):
        arrays = {name: r.weights[node.weights[name]] for name in ("weight", "bias", "running_mean")}
        changed_arrays = (
            {"weight": arrays["weight"] * vector, "bias": arrays["bias"] * vector}
            if own == "weight"
            else {"bias": arrays["bias"] + vector}
        )
        return _add_norm(r, node.inputs[0], node.site, **arrays | changed_arrays)
    if own == "bias" and not is_own and isinstance(op, ops.Conv | ops.Linear) and not op.bias:
        changed: Op = replace(op, bias=True)
        layer = node.weights["weight"].removesuffix(".weight")
        return r.builder.add_op(
            changed, node.inputs[0], node.site, {**node.weights, "bias": r.weight(layer, "bias", vector)}
        )
    if isinstance(op, ops.GroupNorm | ops.LayerNorm) and own == "weight" and not op.affine:
        layer = r.layer_name({"weight": name})
        site = (
            r.site
            if layer.startswith("@")
            else replace(r.site, scope=layer.rpartition(".")[0], name=layer.rpartition(".")[2])
        )
        return r.builder.add_op(
            replace(op, affine=True, bias=False), node.inputs[0], site, {"weight": r.weight(layer, "weight", vector)}
        )
    if isinstance(op, ops.GroupNorm | ops.LayerNorm) and own == "bias" and op.affine and not op.bias:
        layer = node.weights["weight"].removesuffix(".weight")
        return r.builder.add_op(
            replace(op, bias=True), node.inputs[0], node.site, {**node.weights, "bias": r.weight(layer, "bias", vector)}
        )
    return None


@handles("Mul")
def _mul(r: Reader, call: Call) -> Value:
    value, other = _operands(call)
    if isinstance(other, Value):
        return r.builder.merge("multiply", [value, other], r.site)
    if other.size == 1:
        if (learned := _number_for_all(r, call, value, other, ops.Scale)) is not None:
            return learned
        factor = _number(other)
        return r.builder.curve(lambda x: x * factor, [value], r.site)
    return _per_channel(r, call, value, other, ops.Scale)


@handles("Add", "Sum")
def _add(r: Reader, call: Call) -> Value:
    if len(call.inputs) > 2:
        return r.builder.merge("add", [call.value(index) for index in range(len(call.inputs))], r.site)
    value, other = _operands(call)
    if isinstance(other, Value):
        return r.builder.merge("add", [value, other], r.site)
    if other.size == 1:
        if (learned := _number_for_all(r, call, value, other, ops.Shift)) is not None:
            return learned
        summand = _number(other)
        return r.builder.curve(lambda x: x + summand, [value], r.site)
    return _per_channel(r, call, value, other, ops.Shift)


@handles("Mean")
def _mean(r: Reader, call: Call) -> Value:
    values = [call.value(index) for index in range(len(call.inputs))]
    return r.builder.scale(r.builder.merge("add", values, r.site), 1 / len(values), r.site)


@handles("Sub")
def _sub(r: Reader, call: Call) -> Value:
    first, second = call.inputs[:2]
    if isinstance(first, Value) and isinstance(second, Value):
        return r.builder.merge("subtract", [first, second], r.site)
    value, other = _operands(call)
    assert not isinstance(other, Value)
    if other.size != 1 and isinstance(first, Value):
        return _centred(r, value, other)
    if other.size != 1:
        raise Refused("a difference of a constant per channel and a value")
    number = _number(other)
    return r.builder.curve(
        (lambda x: x - number) if isinstance(first, Value) else (lambda x: number - x), [value], r.site
    )


@handles("Div")
def _div(r: Reader, call: Call) -> Value:
    first, second = call.inputs[:2]
    if isinstance(first, Value) and isinstance(second, Value):
        return r.builder.curve(lambda a, b: a / b, [first, second], r.site)
    value, other = _operands(call)
    assert not isinstance(other, Value)
    if other.size != 1 and isinstance(first, Value):
        return _per_channel(r, call, value, 1 / other, ops.Scale)
    if other.size != 1:
        raise Refused("a quotient of a constant per channel and a value")
    number = _number(other)
    return r.builder.curve(
        (lambda x: x / number) if isinstance(first, Value) else (lambda x: number / x), [value], r.site
    )


# -- windows -----------------------------------------------------------------------------------------------------


def _pair(items: Sequence[int]) -> tuple[int, int]:
    return int(items[0]), int(items[1])


def _pads(call: Call, kernel: Sequence[int] | None = None) -> list[int] | Literal["same"]:
    """Return top, left, bottom and right, or "same"."""
    automatic = call.get("auto_pad", "NOTSET")
    if automatic == "SAME_UPPER":
        return "same"
    if automatic == "SAME_LOWER":  # the odd row is above
        dilations, strides = call.get("dilations", [1, 1]), call.get("strides", [1, 1])
        same = ops.Window(_pair(kernel or call.get("kernel_shape")), _pair(strides), None, _pair(dilations))
        (top, bottom), (left, right) = same.margins(*call.value().shape[1:])
        return [bottom, right, top, left]
    return [int(pad) for pad in call.get("pads", [0, 0, 0, 0])] if automatic == "NOTSET" else [0, 0, 0, 0]


def _padding(
    r: Reader,
    value: Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: list[int] | Literal["same"],
) -> tuple[Value, Any]:
    """Return what a convolution reads, and its padding: uneven zeros are a layer of their own."""
    if pads == "same":
        return value, "same"
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return value, (top, left)
    same = ops.Window(_pair(kernel), _pair(strides), None, _pair(dilations))
    if all(r.model.sizes) and same.margins(*value.shape[1:]) == ((top, bottom), (left, right)):
        return value, "same"
    pad = ops.ZeroPad(top, bottom, left, right)
    return r.builder.add(pad, value, replace(r.site, name="", is_layer=False)), 0


def _pool(r: Reader, call: Call, kind: type[ops.MaxPool] | type[ops.AvgPool], **more: Any) -> Value:
    kernel = _pair(call.get("kernel_shape"))
    strides = _pair(call.get("strides", [1, 1]))
    if any(size != 1 for size in call.get("dilations", [1, 1])):
        raise Refused("a pool with dilation")
    value, pads = call.value(), _pads(call)
    if pads == "same":
        return r.builder.add(kind(kernel, strides, "same", **more), value, r.site)
    top, left, bottom, right = pads
    ceil = bool(call.get("ceil_mode", 0))
    if (top, left) == (bottom, right):
        return r.builder.add(kind(kernel, strides, (top, left), ceil, **more), value, r.site)
    for op in (kind(kernel, strides, (top, left), True, **more), kind(kernel, strides, "same", **more)):
        if ops.window_of(op).margins(*value.shape[1:]) == ((top, bottom), (left, right)):
            return r.builder.add(op, value, r.site)
    raise Refused("a pool with other padding than the language has")


@handles("MaxPool")
def _max_pool(r: Reader, call: Call) -> list[Value]:
    return [_pool(r, call, ops.MaxPool)]


@handles("AveragePool")
def _avg_pool(r: Reader, call: Call) -> Value:
    counts = bool(call.get("count_include_pad", 0)) and any(call.get("pads", [0]))
    value, pads = call.value(), _pads(call)
    if isinstance(value.node.op, ops.ZeroPad) and value.index is None and pads != "same":
        pad = value.node.op
        kernel, strides = _pair(call.get("kernel_shape")), _pair(call.get("strides", [1, 1]))
        margins = (pad.top + pads[0], pad.bottom + pads[2]), (pad.left + pads[1], pad.right + pads[3])
        source = value.node.inputs[0]
        plain = (ops.AvgPool(kernel, strides, (pad.top, pad.left), ceil, True) for ceil in (False, True))
        for op in (*plain, ops.AvgPool(kernel, strides, "same", count_padding=True)):
            if ops.window_of(op).margins(*source.shape[1:]) == margins:
                return r.builder.add(op, Value(source), r.site)
    return _pool(r, call, ops.AvgPool, count_padding=counts)


@handles("GlobalAveragePool")
def _global_avg_pool(r: Reader, call: Call) -> Value:
    return _reduce(r, "mean", call.value(), (1, 2), True)


@handles("GlobalMaxPool")
def _global_max_pool(r: Reader, call: Call) -> Value:
    return _reduce(r, "max", call.value(), (1, 2), True)


def _reduce(r: Reader, kind: Literal["mean", "max", "sum"], value: Value, axes: Sequence[int], keepdims: bool) -> Value:
    return r.builder.reduce(kind, value, axes, keepdims, r.site)


@handles("ReduceMean", "ReduceMax", "ReduceSum")
def _reduction(r: Reader, call: Call) -> Value:
    kind: Any = {"ReduceMean": "mean", "ReduceMax": "max", "ReduceSum": "sum"}[call.node.op_type]
    value, given = call.value(), call.constant(1)
    ndim = len(value.shape) + 1
    axes = call.get("axes") if given is None else given.reshape(-1).tolist()
    if axes is None:
        raise Refused("a reduction over the batch")
    return _reduce(r, kind, value, [r.axis(int(axis), ndim) for axis in axes], bool(call.get("keepdims", 1)))


@handles("Pad")
def _pad(r: Reader, call: Call) -> Value:
    value, mode, constant = call.value(), call.get("mode", "constant"), call.constant(2)
    given, axes = call.constant(1), call.constant(3)
    pads = [int(pad) for pad in (call.get("pads") if given is None else given.reshape(-1))]
    ndim = len(value.shape) + 1
    if axes is not None:
        full = [0] * (2 * ndim)
        for index, axis in enumerate(axes.reshape(-1)):
            full[int(axis) % ndim], full[int(axis) % ndim + ndim] = pads[index], pads[index + len(axes)]
        pads = full
    if (
        mode != "constant"
        or (constant is not None and constant.size and float(constant.reshape(-1)[0]) != 0)
        or min(pads) < 0
    ):
        raise Refused(f"padding with mode={mode}, or by other numbers than zero")
    if ndim != 4 or pads[0] or pads[4]:
        raise Refused("padding of other axes than height, width and channels")
    if pads[3] == pads[7] == 0 and any(pads[1::4]) and value.index is not None:  # the map may have its channels last
        with suppress(Refused):
            node, see = r.builder.channels_of(value, -1, r.site)
            return see(r.builder.add_op(ops.ZeroPad(pads[1], pads[5], pads[2], pads[6]), node, r.site))
    if any((pads[2], pads[3], pads[6], pads[7])):
        value = r.builder.add(ops.ZeroPad(pads[2], pads[6], pads[3], pads[7]), value, r.site)
    return r.builder.add(ops.PadChannels(pads[1], pads[5]), value, r.site) if pads[1] or pads[5] else value


@handles("Resize", "Upsample")
def _resize(r: Reader, call: Call) -> Value:
    value, mode = call.value(), call.get("mode", "nearest")
    scales, sizes = (call.constant(index) for index in ((2, 3) if call.node.op_type == "Resize" else (1, 4)))
    if sizes is not None and sizes.size:
        target = [int(size) for size in sizes[2:]]
    elif scales is not None and scales.size:
        target = [int(side * float(scale)) for side, scale in zip(value.shape[1:], scales[2:], strict=True)]
    else:
        raise Refused("a resize without scales or sizes")
    factor = target[0] // value.shape[1]
    transform = call.get("coordinate_transformation_mode", "half_pixel")
    if call.node.op_type == "Upsample":
        transform = "asymmetric"
    if factor < 1 or target != [value.shape[1] * factor, value.shape[2] * factor]:
        raise Refused("interpolation by a factor that is no integer")
    if mode not in ("nearest", "linear") or (
        mode == "linear" and transform not in ("half_pixel", "pytorch_half_pixel")
    ):
        raise Refused(f"interpolation with mode={mode}, coordinate_transformation_mode={transform}")
    rounding = call.get("nearest_mode", "round_prefer_floor") if call.node.op_type == "Resize" else "floor"
    if mode == "nearest" and not _picks_nearest(max(value.shape[1:]), factor, transform, rounding):
        raise Refused(f"interpolation with coordinate_transformation_mode={transform}, nearest_mode={rounding}")
    if factor == 1:
        return value
    return r.builder.add(ops.Upsample(factor, "bilinear" if mode == "linear" else "nearest"), value, r.site)


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda positions: np.ceil(positions - 0.5),
    "round_prefer_ceil": lambda positions: np.floor(positions + 0.5),
}


def _picks_nearest(size: int, factor: int, transform: str, rounding: str) -> bool:
    """Return whether each pixel of a resized row is the one that holds it."""
    pixels = np.arange(size * factor)
    if transform not in ("asymmetric", "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return factor == 1
    positions = pixels / factor if transform == "asymmetric" else (pixels + 0.5) / factor - 0.5
    return np.array_equal(np.clip(_ROUNDINGS[rounding](positions), 0, size - 1), pixels // factor)


# -- rearrangements ----------------------------------------------------------------------------------------------


@handles("Concat")
def _concat(r: Reader, call: Call) -> Value:
    values = [call.value(index) for index in range(len(call.inputs))]
    ndim = len(values[0].shape) + 1
    axis = r.axis(int(call.get("axis")), ndim)
    if axis == 0:
        return r.builder.merge("concat", values, r.site)
    pairs = [r.builder.channels_of(value, axis, r.site) for value in values]
    merged = r.builder.merge("concat", [Value(node) for node, _ in pairs], r.site)
    return pairs[0][1](merged.node)


@handles("Softmax")
def _softmax(r: Reader, call: Call) -> Value:
    value = call.value()
    return r.builder.softmax(value, r.axis(int(call.get("axis", -1)), len(value.shape) + 1), r.site)


@handles("Reshape")
def _reshape(r: Reader, call: Call) -> Value:
    value, shape = call.value(), [int(size) for size in _constant(call, 1).reshape(-1)]
    full = (r.batch, *value.shape)
    if not call.get("allowzero", 0):
        shape = [full[index] if size == 0 else size for index, size in enumerate(shape)]
    return r.rearranged(value, lambda x: x.reshape(shape))


@handles("Flatten")
def _flatten(r: Reader, call: Call) -> Value:
    axis = int(call.get("axis", 1))
    return r.rearranged(call.value(), lambda x: x.reshape(math.prod(x.shape[:axis]), -1))


@handles("Transpose")
def _transpose(r: Reader, call: Call) -> Value:
    return r.rearranged(call.value(), lambda x: x.transpose(call.get("perm")))


@handles("Squeeze")
def _squeeze(r: Reader, call: Call) -> Value:
    given = call.constant(1)
    axes = call.get("axes") if given is None else given.reshape(-1).tolist()
    return r.rearranged(call.value(), lambda x: np.squeeze(x, tuple(axes) if axes is not None else None))


@handles("Unsqueeze")
def _unsqueeze(r: Reader, call: Call) -> Value:
    given = call.constant(1)
    axes = call.get("axes") if given is None else given.reshape(-1).tolist()
    return r.rearranged(call.value(), lambda x: np.expand_dims(x, tuple(axes)))


@handles("Expand")
def _expand(r: Reader, call: Call) -> Value:
    shape = _constant(call, 1).reshape(-1)
    return r.rearranged(
        call.value(), lambda x: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(map(int, shape))))
    )


@handles("Slice")
def _slice(r: Reader, call: Call) -> Value:
    value = call.value()
    given = [call.constant(index) for index in range(1, 5)]
    starts, ends, axes, steps = (None if array is None else array.reshape(-1).tolist() for array in given)
    starts, ends = starts or call.get("starts"), ends or call.get("ends")
    axes = axes or call.get("axes") or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    key: list[Any] = [slice(None)] * (len(value.shape) + 1)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        key[int(axis)] = slice(int(start), int(min(end, 2**40)), int(step))
    return r.rearranged(value, lambda x: x[tuple(key)])


@handles("Split")
def _split(r: Reader, call: Call) -> list[Value]:
    value, axis, given = call.value(), int(call.get("axis", 0)), call.constant(1)
    sizes = call.get("split") if given is None else given.reshape(-1).tolist()
    count = len(call.node.output)
    bounds = np.cumsum(sizes)[:-1] if sizes is not None else count
    pieces = range(count)
    return [r.rearranged(value, lambda x, piece=piece: np.split(x, bounds, axis)[piece]) for piece in pieces]


@handles("SpaceToDepth")
def _space_to_depth(r: Reader, call: Call) -> Value:
    value, size = call.value(), int(call.get("blocksize"))
    channels, height, width = value.shape

    def move(x: Array) -> Array:
        tiles = x.reshape(-1, channels, height // size, size, width // size, size)
        return tiles.transpose(0, 3, 5, 1, 2, 4).reshape(len(x), -1, height // size, width // size)

    return r.rearranged(value, move)


@handles("Gather")
def _gather(r: Reader, call: Call) -> Value:
    index = _constant(call, 1)
    return r.rearranged(call.value(), lambda x: np.take(x, index, int(call.get("axis", 0))))
