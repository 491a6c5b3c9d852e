"""Emit modules for Flax NNX."""

from __future__ import annotations

from typing import assert_never

from resnet_spec import ops
from resnet_spec.emitting.dialect import Layer, Syntax, exactly, read_helpers
from resnet_spec.emitting.expressions import Argument, Call, Raw, positional
from resnet_spec.emitting.formatting import Statement
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Shape, shortest_decimal

SYNTAX = Syntax(
    title="Flax NNX",
    module="nnx.Module",
    tensor="Array",
    forward="__call__",
    superclass_call="",
    sequential="Sequential",
    module_list="nnx.List",
    module_dict="nnx.Dict",
    list_base="nnx.List[Any]",
    parameter_dict="nnx.Dict",
    identity="Sequential()",
    identity_function="nnx.identity",
    layer_type="Callable[[Array], Array]",
    extra_parameter="rngs: nnx.Rngs",
    extra_argument="rngs=rngs",
    has_channels_last=True,
    concat="jnp.concatenate({items}, axis=-1)",
    split="jnp.split({x}, {sizes}, axis=-1)",
    chunk="jnp.split({x}, {count}, axis=-1)",
    splits_at_ends=True,
    expand="{x}[:, None, None]",
    resize="resize_like({x}, {y})",
    imports=(
        (r"\bmath\.", "import math"),
        (r"\bCallable\[", "from collections.abc import Callable"),
        (r"@dataclass\b", "from dataclasses import dataclass"),
        (r"\bpartial\(", "from functools import partial"),
        (r"\bAny\b", "from typing import Any"),
        ("", ""),
        (r"\bjax\.", "import jax"),
        (r"\bjnp\.", "import jax.numpy as jnp"),
        (r"", "from flax import nnx"),
        (r"", "from jax import Array"),
    ),
    evaluate=("model = {call}", "model.eval()", "return model"),
    build_parameter="seed: int = 0",
    build_argument="rngs=nnx.Rngs(seed)",
    reserved=frozenset({"Array", "Callable", "Any"}),
)

_RNGS = Argument("rngs", Raw("rngs"))


class FlaxDialect:
    """How a network is written in Flax NNX."""

    syntax = SYNTAX

    def layer(self, leaf: Leaf, native: bool) -> Layer:
        """Return the layer of an operation."""
        channels = leaf.input_shape[0]
        into = positional("channels", channels, "in")
        match leaf.op:
            case ops.Conv() as op:
                return Layer(Call("conv_with_bias" if op.bias else "conv", (*_conv_arguments(channels, op), _RNGS)))
            case ops.StandardizedConv() as op:
                more = (
                    Argument("use_bias", op.bias, False),
                    Argument("epsilon", exactly(op.epsilon, "KERNEL_EPSILON"), 1e-6),
                    Argument("scaled", op.scaled, False),
                    Argument("factor", op.factor, 1.0),
                )
                return Layer(Call("StandardizedConv", (*_conv_arguments(channels, op.to_conv()), *more, _RNGS)))
            case ops.ChannelConv(kernel, init):
                drawn = Argument("init", Raw(init), Raw("uniform_fan_in"))
                return Layer(Call("ChannelConv", (positional("kernel_size", kernel), drawn, _RNGS)))
            case ops.Linear(out, bias, init):
                arguments = (
                    positional("in_features", channels, "in"),
                    positional("out_features", out, "out"),
                    Argument("use_bias", bias, True),
                    Argument("kernel_init", Raw(init), Raw("uniform_fan_in")),
                )
                return Layer(Call("linear", (*arguments, _RNGS)))
            case ops.BatchNorm() as op:
                return _batch_norm(into, op, native)
            case ops.GroupNorm() as op:
                groups = Argument("num_groups", op.group_count(channels), 32)
                return Layer(Call("nnx.GroupNorm", (into, groups, *_norm_arguments(op), _RNGS)))
            case ops.LayerNorm() as op:
                return Layer(Call("nnx.LayerNorm", (into, *_norm_arguments(op), _RNGS)))
            case ops.RmsNorm(epsilon, gamma, variance):
                eps = Argument("epsilon", exactly(epsilon, "EPSILON"), 1e-6)
                if variance:
                    return Layer(Call("SimpleNorm", (into, eps, Argument("start", float(gamma), 1.0))))
                return Layer(Call("nnx.RMSNorm", (into, eps, _scale_init(gamma), _RNGS)))
            case ops.GlobalResponseNorm(epsilon, gamma):
                eps = Argument("epsilon", exactly(epsilon, "EPSILON"), 1e-6)
                return Layer(Call("GlobalResponseNorm", (into, eps, Argument("start", float(gamma), 0.0))))
            case ops.EvoNormS0() as op:
                own = positional("groups", op.group_count(channels)), positional("eps", exactly(op.epsilon, "EPSILON"))
                flags = Argument("act", op.act, True), Argument("start", float(op.gamma), 1.0)
                return Layer(Call("EvoNormS0", (into, *own, *flags)))
            case ops.FilterResponseNorm(epsilon, gamma):
                eps, start = positional("epsilon", exactly(epsilon, "EPSILON")), Argument("start", float(gamma), 1.0)
                return Layer(Call("FilterResponseNorm", (into, eps, start)))
            case ops.Relu():
                return _function("nnx.relu")
            case ops.Relu6():
                return _function("nnx.relu6")
            case ops.SquaredRelu():
                return _function("squared_relu")
            case ops.Prelu(slope, per):
                count = into if per == "channel" else positional("count", 1)
                return Layer(Call("PReLU", (count, Argument("start", slope, 0.25))))
            case ops.LeakyRelu(slope):
                return Layer(Call("LeakyReLU", (positional("slope", exactly(slope, "SLOPE")),)))
            case ops.Elu():
                return _function("nnx.elu")
            case ops.Gelu(approximate):
                module = Call("GELU", (Argument("approximate", approximate, False),))
                return Layer(None, f"nnx.gelu({{x}}, approximate={approximate})", module=module)
            case ops.Silu():
                return _function("nnx.silu")
            case ops.Sigmoid():
                return _function("nnx.sigmoid")
            case ops.Tanh():
                return _function("nnx.tanh")
            case ops.HardSigmoid():
                return _function("nnx.hard_sigmoid")
            case ops.HardSwish():
                return _function("nnx.hard_swish")
            case ops.MaxPool() as op:
                return _pool("max", op, "", ())
            case ops.AvgPool(count_padding=counts) as op:
                is_counted = "" if counts or op.padding == 0 else ", count_include_pad=False"
                return _pool("avg", op, is_counted, (Argument("count_padding", counts, False),))
            case ops.BlurPool(stride):
                return Layer(Call("BlurPool2d", (Argument("stride", stride, 2),)))
            case ops.GlobalAvgPool(True):
                return Layer(None, "{x}.mean(axis=(1, 2), keepdims=True)", module=Raw("mean_pixel"))
            case ops.GlobalAvgPool():
                return Layer(None, "{x}.mean(axis=(1, 2))", module=Raw("global_avg_pool"))
            case ops.GlobalMaxPool(keepdims):
                return _function("max_pixel" if keepdims else "global_max_pool")
            case ops.AdaptiveAvgPool(size):
                return Layer(Call("AdaptiveAvgPool2d", (positional("size", size),)))
            case ops.ChannelAvgPool():
                return _function("channel_avg_pool")
            case ops.ChannelMaxPool():
                return _function("channel_max_pool")
            case ops.ZeroPad(top, bottom, left, right):
                sides = {"top": top, "bottom": bottom, "left": left, "right": right}
                return Layer(Call("ZeroPad2d", tuple(Argument(name, value, 0) for name, value in sides.items())))
            case ops.PadChannels(before, after):
                return Layer(Call("PadChannels", (positional("before", before), positional("after", after))))
            case ops.SplitSum(parts):
                return Layer(Call("SplitSum", (positional("parts", parts),)))
            case ops.SplitSoftmax(parts, groups):
                return Layer(Call("SplitSoftmax", (positional("parts", parts), Argument("groups", groups, 1))))
            case ops.SpaceToDepth(size, order):
                return Layer(Call("SpaceToDepth", (positional("size", size), positional("order", order))))
            case ops.ChannelShuffle(groups):
                return Layer(Call("ChannelShuffle", (positional("groups", groups),)))
            case ops.Upsample(factor, mode):
                return Layer(Call("Upsample", (positional("factor", factor), Argument("mode", mode, "nearest"))))
            case ops.Scale() as op:
                if not op.learned:
                    return Layer(Call("Scale", (positional("factor", op.factor),)))
                return _own_weight(leaf, op.factor, "*")
            case ops.Shift() as op:
                return _own_weight(leaf, op.start, "+")
            case ops.Flatten():
                return _function("flatten")
            case ops.Dropout(rate):
                return Layer(Call("nnx.Dropout", (positional("rate", shortest_decimal(rate)), _RNGS)))
            case ops.DropPath(rate):
                axes = positional("axes", len(leaf.input_shape) + 1)
                return Layer(Call("drop_path", (positional("rate", shortest_decimal(rate)), axes, _RNGS)))
            case ops.DropBlock(rate, size, scale):
                sizes = (Argument("size", size, 7), Argument("scale", scale, 1.0))
                return Layer(Call("DropBlock2d", (positional("rate", shortest_decimal(rate)), *sizes, _RNGS)))
            case ops.Identity():
                return Layer(None, "{x}", module=Raw("nnx.identity"))
            case _:
                assert_never(leaf.op)

    def helpers(self) -> str:
        """Return the source of the layers that Flax lacks."""
        return read_helpers("resnet_spec_flax")

    def initialization(self, leaves: list[Leaf]) -> list[Statement]:
        """Return no statements: each layer is given its initialisers."""
        return []

    def main(self, shape: Shape) -> list[str]:
        """Return the statements that print a table of the modules and run the network."""
        channels, height, width = shape
        return [
            f"images = jnp.zeros((2, {height}, {width}, {channels}))",
            "print(nnx.tabulate(model, images, depth=1))",
            "print(images.shape, model(images).shape)",
        ]


def _function(name: str) -> Layer:
    """Return a function without arguments, which needs no module."""
    return Layer(None, f"{name}({{x}})", module=Raw(name))


def _conv_arguments(channels: int, op: ops.Conv) -> tuple[Argument, ...]:
    padding = ops.fixed_padding(op)
    return (
        positional("in_features", channels, "in"),
        positional("out_features", op.out, "out"),
        positional("kernel_size", ops.per_axis(op.kernel)),
        Argument("strides", op.stride, 1),
        Argument("padding", "SAME" if padding is None else padding, 0),
        Argument("kernel_dilation", op.dilation, 1),
        Argument("feature_group_count", op.groups, 1),
        Argument("kernel_init", Raw(op.init), Raw("he_normal_fan_out")),
    )


def _scale_init(gamma: float) -> Argument:
    """Return the argument that sets the initial scale of a norm, unless it is one."""
    value = "None" if gamma == 1.0 else "zeros" if gamma == 0.0 else f"nnx.initializers.constant({float(gamma)!r})"
    return Argument("scale_init", Raw(value), Raw("None"))


def _batch_norm(into: Argument, op: ops.BatchNorm, native: bool) -> Layer:
    is_own = op.variance == "unbiased" and not native
    decay, epsilon = shortest_decimal(op.decay), exactly(op.epsilon, "EPSILON")
    flags = Argument("use_bias", op.affine, True), Argument("use_scale", op.affine, True), _scale_init(op.gamma)
    if is_own:
        return Layer(
            Call("BatchNorm", (into, positional("epsilon", epsilon), Argument("momentum", decay, 0.9), *flags, _RNGS))
        )
    numbers = Argument("momentum", decay, 0.99), Argument("epsilon", epsilon, 1e-5)
    precise = Argument("use_fast_variance", False, True)
    call = Call("nnx.BatchNorm", (into, *numbers, *flags, precise, _RNGS))
    note = "nnx.BatchNorm: its running variance is that of the batch, not n / (n - 1) of it."
    return Layer(call, note=note if op.variance == "unbiased" and native else "")


def _norm_arguments(op: ops.GroupNorm | ops.LayerNorm) -> tuple[Argument, ...]:
    return (
        Argument("epsilon", exactly(op.epsilon, "EPSILON"), 1e-6),
        Argument("use_bias", op.affine and op.bias, True),
        Argument("use_scale", op.affine, True),
        _scale_init(op.gamma),
        Argument("use_fast_variance", False, True),
    )


def _pool(kind: str, op: ops.MaxPool | ops.AvgPool, options: str, more: tuple[Argument, ...]) -> Layer:
    """Return a pool: a function of nnx, or a module where it stands in a row or keeps a window past the edge."""
    padding = ops.fixed_padding(op)
    arguments = (
        positional("kernel", op.kernel),
        Argument("stride", op.stride, 1),
        Argument("padding", "SAME" if padding is None else padding, 0),
        Argument("ceil", op.ceil, False),
        *more,
    )
    module = Call(f"{kind.title()}Pool2d", arguments)
    if op.ceil:
        return Layer(module)
    sides = '"SAME"' if padding is None else repr(tuple((side, side) for side in ops.per_axis(padding)))
    window = f"{ops.per_axis(op.kernel)}, {ops.per_axis(op.stride)}"
    padded = "" if padding == 0 else f", {sides}"
    return Layer(None, f"nnx.{kind}_pool({{x}}, {window}{padded}{options})", module=module)


def _own_weight(leaf: Leaf, start: float, operator: str) -> Layer:
    """Return a factor or a summand, whose weight is an attribute of the module that holds it."""
    (weight,) = leaf.op.weights(leaf.input_shape)
    sizes = weight.shape[::-1]  # the channels are the last axis
    last = len(sizes) - 1
    arguments = tuple(positional("channels", size, "in" if index == last else "") for index, size in enumerate(sizes))
    full = Call("jnp.full", (positional("shape", Call("", arguments)), positional("value", float(start))))
    return Layer(Call("nnx.Param", (positional("value", full),)), f"{{x}} {operator} {{f}}[...]")


DIALECT = FlaxDialect()
