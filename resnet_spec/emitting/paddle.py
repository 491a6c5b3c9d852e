"""Emit modules for PaddlePaddle."""

from __future__ import annotations

from typing import assert_never

from resnet_spec import ops
from resnet_spec.emitting.dialect import Layer, Syntax, exactly, read_helpers
from resnet_spec.emitting.expressions import Argument, Call, positional
from resnet_spec.emitting.formatting import Statement
from resnet_spec.emitting.initialization import initialization_loop
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Shape, shortest_decimal

SYNTAX = Syntax(
    title="PaddlePaddle",
    module="nn.Layer",
    tensor="Tensor",
    forward="forward",
    superclass_call="super().__init__()",
    sequential="nn.Sequential",
    module_list="nn.LayerList",
    module_dict="nn.LayerDict",
    list_base="nn.LayerList",
    parameter_dict="nn.ParameterDict",
    identity="nn.Identity()",
    identity_function="nn.Identity()",
    layer_type="nn.Layer",
    extra_parameter="",
    extra_argument="",
    has_channels_last=False,
    concat="paddle.concat({items}, axis=1)",
    split="{x}.split({sizes}, axis=1)",
    chunk="{x}.chunk({count}, axis=1)",
    splits_at_ends=False,
    expand="{x}.unsqueeze([2, 3])",
    resize="resize_like({x}, {y})",
    imports=(
        (r"\bmath\.", "import math"),
        ("", ""),
        (r"\bpaddle\.", "import paddle"),
        (r"", "from paddle import Tensor, nn"),
        (r"\bfunctional\.", "from paddle.nn import functional"),
    ),
    evaluate=("model = {call}", "model.eval()", "return model"),
    build_parameter="",
    build_argument="",
    reserved=frozenset({"Tensor"}),
)


class PaddleDialect:
    """How a network is written in PaddlePaddle."""

    syntax = SYNTAX

    def layer(self, leaf: Leaf, native: bool) -> Layer:
        """Return the layer of an operation."""
        channels, is_map = leaf.input_shape[0], len(leaf.input_shape) == 3
        into = positional("in_channels", channels, "in")
        match leaf.op:
            case ops.Conv() as op:
                return Layer(_conv("SameConv2D" if op.padding == "same" else "nn.Conv2D", channels, op))
            case ops.StandardizedConv() as op:
                plain = _conv("StandardizedConv2D", channels, op.to_conv())
                more = (
                    Argument("epsilon", shortest_decimal(op.epsilon), 1e-6),
                    Argument("scaled", op.scaled, False),
                    Argument("factor", op.factor, 1.0),
                    Argument("same", op.padding == "same", False),
                )
                return Layer(Call(plain.function, (*plain.arguments, *more)))
            case ops.ChannelConv(kernel):
                return Layer(Call("ChannelConv1D", (positional("kernel_size", kernel),)))
            case ops.Linear(out, bias):
                arguments = (into, positional("out_features", out, "out"), _attribute("bias", bias))
                return Layer(Call("Linear2D" if is_map else "nn.Linear", arguments))
            case ops.BatchNorm() as op:
                return _batch_norm(channels, op, native)
            case ops.GroupNorm() as op:
                groups = positional("num_groups", op.group_count(channels))
                note = "nn.GroupNorm: its variance is E[x^2] - E[x]^2, which is less precise far from zero."
                return _norm("nn.GroupNorm" if native else "GroupNorm2D", (groups, into), op, note if native else "")
            case ops.LayerNorm() as op:
                is_small = shortest_decimal(op.epsilon) <= 0.001
                return _norm("LayerNorm2D" if is_map else "nn.LayerNorm" if is_small else "LayerNorm", (into,), op, "")
            case ops.RmsNorm(epsilon, variance=variance):
                eps = positional("epsilon", exactly(epsilon, "EPSILON"))
                return Layer(Call("RMSNorm", (into, eps, Argument("variance", variance, False))))
            case ops.GlobalResponseNorm(epsilon):
                return Layer(Call("GlobalResponseNorm2D", (into, positional("epsilon", exactly(epsilon, "EPSILON")))))
            case ops.EvoNormS0() as op:
                own = positional("groups", op.group_count(channels)), positional("eps", exactly(op.epsilon, "EPSILON"))
                return Layer(Call("EvoNorm2DS0", (into, *own, Argument("act", op.act, True))))
            case ops.FilterResponseNorm(epsilon):
                return Layer(Call("FilterResponseNorm2D", (into, positional("epsilon", exactly(epsilon, "EPSILON")))))
            case ops.Relu():
                return Layer(Call("nn.ReLU"))
            case ops.Relu6():
                return Layer(Call("nn.ReLU6"))
            case ops.SquaredRelu():
                return Layer(Call("SquaredReLU"))
            case ops.Prelu(slope, per):
                count = into if per == "channel" else positional("count", 1)
                return Layer(Call("PReLU", (count, Argument("start", slope, 0.25))))
            case ops.LeakyRelu(slope):
                if native:
                    note = "nn.LeakyReLU: its derivative at zero is 1, not the slope."
                    return Layer(Call("nn.LeakyReLU", (Argument("negative_slope", slope, 0.01),)), note=note)
                return Layer(Call("LeakyReLU", (positional("slope", exactly(slope, "SLOPE")),)))
            case ops.Elu():
                return Layer(Call("nn.ELU"))
            case ops.Gelu(approximate):
                return Layer(Call("nn.GELU", (Argument("approximate", approximate, False),)))
            case ops.Silu():
                return Layer(Call("nn.Silu"))
            case ops.Sigmoid():
                return Layer(Call("nn.Sigmoid"))
            case ops.Tanh():
                return Layer(Call("nn.Tanh"))
            case ops.HardSigmoid():
                note = "nn.Hardsigmoid: it multiplies by 0.1666667, not by 1/6."
                return Layer(Call("nn.Hardsigmoid"), note=note) if native else Layer(Call("HardSigmoid"))
            case ops.HardSwish():
                return Layer(Call("nn.Hardswish"))
            case ops.MaxPool() as op:
                if op.ceil or op.padding == "same":
                    return _own_pool("MaxPool2D", op)
                return _native_pool("nn.MaxPool2D", op)
            case ops.AvgPool() as op:
                if native and not op.ceil and op.padding != "same":
                    exclusive = Argument("exclusive", not op.count_padding or op.padding == 0, True)
                    note = "nn.AvgPool2D: its gradient divides in float32."
                    return _native_pool("nn.AvgPool2D", op, exclusive, note=note)
                return _own_pool("AvgPool2D", op, Argument("count_padding", op.count_padding, False))
            case ops.BlurPool(stride):
                return Layer(Call("BlurPool2D", (Argument("stride", stride, 2),)))
            case ops.GlobalAvgPool(True):
                return Layer(None, "{x}.mean([2, 3], keepdim=True)", module=Call("MeanPixel"))
            case ops.GlobalAvgPool():
                return Layer(None, "{x}.mean([2, 3])", module=Call("GlobalAvgPool2D"))
            case ops.GlobalMaxPool(keepdims):
                pool = Call("nn.AdaptiveMaxPool2D", (positional("output_size", 1),))
                module = Call("GlobalMaxPool2D", pool.arguments)
                return Layer(pool) if keepdims else Layer(pool, "{f}({x}).flatten(1)", module=module)
            case ops.AdaptiveAvgPool(size):
                return Layer(Call("AdaptiveAvgPool2D", (positional("size", size),)))
            case ops.ChannelAvgPool():
                return Layer(Call("ChannelAvgPool2D"))
            case ops.ChannelMaxPool():
                return Layer(Call("ChannelMaxPool2D"))
            case ops.ZeroPad(top, bottom, left, right):
                sides = Call("[", tuple(positional("side", side) for side in (left, right, top, bottom)))
                return Layer(Call("nn.ZeroPad2D", (positional("padding", sides),)))
            case ops.PadChannels(before, after):
                return Layer(Call("PadChannels2D", (positional("before", before), positional("after", after))))
            case ops.SplitSum(parts):
                return Layer(Call("SplitSum", (positional("parts", parts),)))
            case ops.SplitSoftmax(parts, groups):
                return Layer(Call("SplitSoftmax", (positional("parts", parts), Argument("groups", groups, 1))))
            case ops.SpaceToDepth(size, order):
                return Layer(Call("SpaceToDepth", (positional("size", size), positional("order", order))))
            case ops.ChannelShuffle(groups):
                return Layer(Call("nn.ChannelShuffle", (positional("groups", groups),)))
            case ops.Upsample(factor, mode):
                return Layer(Call("Upsample", (positional("factor", factor), Argument("mode", mode, "nearest"))))
            case ops.Scale() as op:
                if not op.learned:
                    return Layer(Call("Scale", (positional("factor", op.factor),)))
                return _own_weight(leaf, op.factor, "*")
            case ops.Shift() as op:
                return _own_weight(leaf, op.start, "+")
            case ops.Flatten():
                return Layer(Call("nn.Flatten"))
            case ops.Dropout(rate):
                return Layer(Call("nn.Dropout", (positional("rate", shortest_decimal(rate)),)))
            case ops.DropPath(rate):
                return Layer(Call("DropPath", (positional("rate", shortest_decimal(rate)),)))
            case ops.DropBlock(rate, size, scale):
                squares = Argument("size", size, 7), Argument("scale", scale, 1.0)
                return Layer(Call("DropBlock2D", (positional("rate", shortest_decimal(rate)), *squares)))
            case ops.Identity():
                return Layer(Call("nn.Identity"))
            case _:
                assert_never(leaf.op)

    def helpers(self) -> str:
        """Return the source of the layers that Paddle lacks."""
        return read_helpers("resnet_spec_paddle")

    def initialization(self, leaves: list[Leaf]) -> list[Statement]:
        """Return a loop over the layers that draws the weights that Paddle draws otherwise."""
        drawn = [leaf for leaf in leaves if not isinstance(leaf.op, ops.BatchNorm | ops.GroupNorm | ops.LayerNorm)]
        defaults: dict[type, str] = {ops.GlobalResponseNorm: "0.0"}
        lines = initialization_loop(drawn, self, "self.named_sublayers()", _INITIALIZERS, defaults, _BASES)
        kinds = {
            _BASES.get(call.function, call.function)
            for leaf in leaves
            if any(weight.name == "bias" for weight in leaf.op.weights(leaf.input_shape)) and hasattr(leaf.op, "init")
            for call in [self.layer(leaf, False).call]
            if call is not None
        }
        if kinds:
            lines.append((0, "for module in self.sublayers():"))
            lines.append((1, f"if isinstance(module, {' | '.join(sorted(kinds))}) and module.bias is not None:"))
            lines.append((2, "draw_bias(module)"))
        return lines

    def main(self, shape: Shape) -> list[str]:
        """Return the statements that print a summary and run the network."""
        sizes = ", ".join(map(str, shape))
        return [
            f"paddle.summary(model, (2, {sizes}))",
            f"images = paddle.zeros([2, {sizes}])",
            "with paddle.no_grad():",
            "    print(tuple(images.shape), tuple(model(images).shape))",
        ]


_INITIALIZERS = {
    "he_normal_fan_out": 'nn.initializer.KaimingNormal(mode="fan_out")({w})',
    "he_normal_fan_in": "nn.initializer.KaimingNormal()({w})",
    "lecun_normal": 'nn.initializer.KaimingNormal(nonlinearity="linear")({w})',
    "glorot_uniform": "nn.initializer.XavierUniform()({w})",
    "uniform_fan_in": 'nn.initializer.KaimingUniform(negative_slope=5**0.5, nonlinearity="leaky_relu")({w})',
    "zeros": "nn.initializer.Constant(0.0)({w})",
    "constant": "nn.initializer.Constant({value})({w})",
}
"""The statements that draw a weight."""

_BASES = {
    "SameConv2D": "nn.Conv2D",
    "StandardizedConv2D": "nn.Conv2D",
    "ChannelConv1D": "nn.Conv1D",
    "Linear2D": "nn.Linear",
    "BatchNorm2D": "nn.BatchNorm2D",
    "GroupNorm2D": "nn.GroupNorm",
    "LayerNorm": "nn.LayerNorm",
    "LayerNorm2D": "nn.LayerNorm",
}
"""What the emitted layers are subclasses of."""


def _attribute(name: str, is_present: bool) -> Argument:
    """Return the argument that says whether a layer has a weight: None if it has."""
    return Argument(f"{name}_attr", None if is_present else False, None)


def _scale_attribute(op: ops.BatchNorm | ops.GroupNorm | ops.LayerNorm) -> Argument:
    """Return the argument that says how the scale of a norm is drawn, or that there is none."""
    if not op.affine or op.gamma == 1.0:
        return _attribute("weight", op.affine)
    return Argument("weight_attr", Call("nn.initializer.Constant", (positional("value", float(op.gamma)),)), None)


def _conv(function: str, channels: int, op: ops.Conv) -> Call:
    padding = ops.fixed_padding(op)
    return Call(
        function,
        (
            positional("in_channels", channels, "in"),
            positional("out_channels", op.out, "out"),
            positional("kernel_size", op.kernel),
            Argument("stride", op.stride, 1),
            Argument("padding", 0 if padding is None else padding, 0),
            Argument("dilation", op.dilation, 1),
            Argument("groups", op.groups, 1),
            _attribute("bias", op.bias),
        ),
    )


def _batch_norm(channels: int, op: ops.BatchNorm, native: bool) -> Layer:
    is_own = op.variance == "unbiased" and not native
    call = Call(
        "BatchNorm2D" if is_own else "nn.BatchNorm2D",
        (
            positional("num_features", channels, "in"),
            Argument("momentum", shortest_decimal(op.decay), 0.9),
            Argument("epsilon", shortest_decimal(op.epsilon), 1e-5),
            _scale_attribute(op),
            _attribute("bias", op.affine),
        ),
    )
    note = "nn.BatchNorm2D: its running variance is that of the batch, not n / (n - 1) of it."
    return Layer(call, note=note if op.variance == "unbiased" and native else "")


def _norm(function: str, sizes: tuple[Argument, ...], op: ops.GroupNorm | ops.LayerNorm, note: str) -> Layer:
    epsilon = Argument("epsilon", shortest_decimal(op.epsilon), 1e-5)
    flags = _scale_attribute(op), _attribute("bias", op.affine and op.bias)
    return Layer(Call(function, (*sizes, epsilon, *flags)), note=note)


def _native_pool(function: str, op: ops.MaxPool | ops.AvgPool, *more: Argument, note: str = "") -> Layer:
    # Without a stride, Paddle's pools take that of their kernel.
    stride, padding = Argument("stride", op.stride, op.kernel), Argument("padding", ops.fixed_padding(op), 0)
    return Layer(Call(function, (positional("kernel_size", op.kernel), stride, padding, *more)), note=note)


def _own_pool(function: str, op: ops.MaxPool | ops.AvgPool, *more: Argument) -> Layer:
    arguments = (
        positional("kernel_size", op.kernel),
        Argument("stride", op.stride, 1),
        Argument("padding", ops.fixed_padding(op) or 0, 0),
        Argument("ceil", op.ceil, False),
        Argument("same", op.padding == "same", False),
    )
    return Layer(Call(function, (*arguments, *more)))


def _own_weight(leaf: Leaf, start: float, operator: str) -> Layer:
    """Return a factor or a summand, whose weight is an attribute of the layer that holds it."""
    (weight,) = leaf.op.weights(leaf.input_shape)
    sizes = tuple(positional("channels", size, "in" if index == 0 else "") for index, size in enumerate(weight.shape))
    value = Call("nn.initializer.Constant", (positional("value", float(start)),))
    call = Call("self.create_parameter", (positional("shape", Call("", sizes)), Argument("default_initializer", value)))
    is_row = len(leaf.input_shape) == 3 and len(weight.shape) == 1 and weight.shape[0] > 1
    return Layer(call, f"{{x}} {operator} {{f}}{'.reshape([-1, 1, 1])' if is_row else ''}")


DIALECT = PaddleDialect()
