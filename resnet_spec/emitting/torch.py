"""Emit modules for PyTorch."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

from resnet_spec import ops
from resnet_spec.emitting.dialect import Layer, Syntax, exactly, read_helpers
from resnet_spec.emitting.expressions import Argument, Call, positional
from resnet_spec.emitting.formatting import Statement
from resnet_spec.emitting.initialization import initialization_loop
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Shape

SYNTAX = Syntax(
    title="PyTorch",
    module="nn.Module",
    tensor="Tensor",
    forward="forward",
    superclass_call="super().__init__()",
    sequential="nn.Sequential",
    module_list="nn.ModuleList",
    module_dict="nn.ModuleDict",
    list_base="nn.ModuleList",
    parameter_dict="nn.ParameterDict",
    identity="nn.Identity()",
    identity_function="nn.Identity()",
    layer_type="nn.Module",
    extra_parameter="",
    extra_argument="",
    has_channels_last=False,
    concat="torch.cat({items}, dim=1)",
    split="{x}.split({sizes}, dim=1)",
    chunk="{x}.chunk({count}, dim=1)",
    splits_at_ends=False,
    expand="{x}[:, :, None, None]",
    resize="resize_like({x}, {y})",
    imports=(
        (r"\bmath\.", "import math"),
        (r"\bOrderedDict\b", "from collections import OrderedDict"),
        ("", ""),
        (r"\btorch\.", "import torch"),
        (r"", "from torch import Tensor, nn"),
        (r"\bfunctional\.", "from torch.nn import functional"),
    ),
    evaluate=("return {call}.eval()",),
    build_parameter="",
    build_argument="",
    reserved=frozenset({"Tensor", "OrderedDict"}),
)


class TorchDialect:
    """How a network is written in PyTorch."""

    syntax = SYNTAX

    def layer(self, leaf: Leaf, native: bool) -> Layer:
        """Return the layer of an operation."""
        channels, is_map = leaf.input_shape[0], len(leaf.input_shape) == 3
        into = positional("in_channels", channels, "in")
        match leaf.op:
            case ops.Conv() as op:
                return Layer(_conv("SameConv2d" if op.padding == "same" else "nn.Conv2d", channels, op, True))
            case ops.StandardizedConv() as op:
                plain = _conv("StandardizedConv2d", channels, op.to_conv(), False)
                more = (
                    Argument("eps", exactly(op.epsilon, "KERNEL_EPSILON"), 1e-6),
                    Argument("scaled", op.scaled, False),
                    Argument("factor", op.factor, 1.0),
                    Argument("same", op.padding == "same", False),
                )
                return Layer(Call(plain.function, (*plain.arguments, *more)))
            case ops.ChannelConv(kernel):
                return Layer(Call("ChannelConv1d", (positional("kernel_size", kernel),)))
            case ops.Linear(out, bias):
                arguments = (into, positional("out_features", out, "out"), Argument("bias", bias, True))
                return Layer(Call("Linear2d" if is_map else "nn.Linear", arguments))
            case ops.BatchNorm(epsilon, decay, variance, affine):
                return _batch_norm(channels, epsilon, decay, variance == "biased" and not native, affine, variance)
            case ops.GroupNorm() as op:
                groups = positional("num_groups", op.group_count(channels))
                if op.affine and not op.bias:
                    eps = positional("eps", exactly(op.epsilon, "EPSILON"))
                    return Layer(Call("group_norm_without_bias", (groups, into, eps)))
                eps = Argument("eps", exactly(op.epsilon, "EPSILON"), 1e-5)
                return Layer(Call("nn.GroupNorm", (groups, into, eps, Argument("affine", op.affine, True))))
            case ops.LayerNorm(epsilon, bias=bias, affine=affine):
                flags = (Argument("elementwise_affine", affine, True), Argument("bias", bias, True))
                eps = Argument("eps", exactly(epsilon, "EPSILON"), 1e-5)
                return Layer(Call("LayerNorm2d" if is_map else "nn.LayerNorm", (into, eps, *flags)))
            case ops.RmsNorm(epsilon, variance=True):
                return Layer(Call("SimpleNorm", (into, Argument("eps", exactly(epsilon, "EPSILON"), 1e-6))))
            case ops.RmsNorm(epsilon):
                eps = Argument("eps", exactly(epsilon, "EPSILON"), None)
                return Layer(Call("RMSNorm2d" if is_map else "nn.RMSNorm", (into, eps)))
            case ops.GlobalResponseNorm(epsilon):
                eps = Argument("eps", exactly(epsilon, "EPSILON"), 1e-6)
                return Layer(Call("GlobalResponseNorm2d", (into, eps)))
            case ops.EvoNormS0() as op:
                own = positional("groups", op.group_count(channels)), positional("eps", exactly(op.epsilon, "EPSILON"))
                return Layer(Call("EvoNorm2dS0", (into, *own, Argument("act", op.act, True))))
            case ops.FilterResponseNorm(epsilon):
                return Layer(Call("FilterResponseNorm2d", (into, positional("eps", exactly(epsilon, "EPSILON")))))
            case ops.Relu():
                return Layer(Call("nn.ReLU"))
            case ops.Relu6():
                return Layer(Call("nn.ReLU6"))
            case ops.SquaredRelu():
                return Layer(Call("SquaredReLU"))
            case ops.Prelu(slope, per):
                count = into if per == "channel" else positional("num_parameters", 1)
                return Layer(Call("nn.PReLU", (count, Argument("init", slope, 0.25))))
            case ops.LeakyRelu(slope):
                return Layer(Call("nn.LeakyReLU", (Argument("negative_slope", exactly(slope, "SLOPE"), 0.01),)))
            case ops.Elu():
                return Layer(Call("nn.ELU"))
            case ops.Gelu(approximate):
                how = "tanh" if approximate else "none"
                return Layer(Call("nn.GELU", (Argument("approximate", how, "none"),)))
            case ops.Silu():
                return Layer(Call("nn.SiLU"))
            case ops.Sigmoid():
                return Layer(Call("nn.Sigmoid"))
            case ops.Tanh():
                return Layer(Call("nn.Tanh"))
            case ops.HardSigmoid():
                note = "nn.Hardsigmoid: its gradient multiplies by 1/6 in float32."
                return Layer(Call("nn.Hardsigmoid"), note=note) if native else Layer(Call("HardSigmoid"))
            case ops.HardSwish():
                return Layer(Call("nn.Hardswish"))
            case ops.MaxPool() as op:
                if op.padding == "same":
                    return Layer(Call("SameMaxPool2d", _window(op, 1)))
                padding = Argument("padding", ops.fixed_padding(op), 0)
                ceil = Argument("ceil_mode", op.ceil, False)
                return Layer(Call("nn.MaxPool2d", (*_window(op, None), padding, ceil)))
            case ops.AvgPool() as op:
                counted = Argument("count_include_pad", op.count_padding, op.padding != "same")
                if op.padding == "same":
                    return Layer(Call("SameAvgPool2d", (*_window(op, 1), counted)))
                padding = Argument("padding", ops.fixed_padding(op), 0)
                ceil = Argument("ceil_mode", op.ceil, False)
                if op.padding == 0 and not op.ceil:  # there is nothing to count
                    counted = Argument("count_include_pad", True, True)
                return Layer(Call("nn.AvgPool2d", (*_window(op, None), padding, ceil, counted)))
            case ops.BlurPool(stride):
                return Layer(Call("BlurPool2d", (Argument("stride", stride, 2),)))
            case ops.GlobalAvgPool(keepdims):
                return _global_pool("Avg", keepdims)
            case ops.GlobalMaxPool(keepdims):
                return _global_pool("Max", keepdims)
            case ops.AdaptiveAvgPool(size):
                return Layer(Call("nn.AdaptiveAvgPool2d", (positional("output_size", size),)))
            case ops.ChannelAvgPool():
                return Layer(Call("ChannelAvgPool2d"))
            case ops.ChannelMaxPool():
                return Layer(Call("ChannelMaxPool2d"))
            case ops.ZeroPad(top, bottom, left, right):
                return Layer(Call("nn.ZeroPad2d", (positional("padding", (left, right, top, bottom)),)))
            case ops.PadChannels(before, after):
                return Layer(Call("nn.ZeroPad3d", (positional("padding", (0, 0, 0, 0, before, after)),)))
            case ops.SplitSum(parts):
                return Layer(Call("SplitSum", (positional("parts", parts),)))
            case ops.SplitSoftmax(parts, groups):
                return Layer(Call("SplitSoftmax", (positional("parts", parts), Argument("groups", groups, 1))))
            case ops.SpaceToDepth(size, order):
                if order == "channel_row_column":
                    return Layer(Call("nn.PixelUnshuffle", (positional("downscale_factor", size),)))
                return Layer(Call("SpaceToDepth", (positional("size", size), positional("order", order))))
            case ops.ChannelShuffle(groups):
                return Layer(Call("nn.ChannelShuffle", (positional("groups", groups),)))
            case ops.Upsample(factor, mode):
                scale = Argument("scale_factor", factor)
                return Layer(Call("nn.Upsample", (scale, Argument("mode", mode, "nearest"))))
            case ops.Scale() as op:
                if not op.learned:
                    return Layer(Call("Scale", (positional("factor", op.factor),)))
                return _own_weight(leaf, op.factor, "*")
            case ops.Shift() as op:
                return _own_weight(leaf, op.start, "+")
            case ops.Flatten():
                return Layer(Call("nn.Flatten"))
            case ops.Dropout(rate):
                return Layer(Call("nn.Dropout", (positional("rate", ops.shortest_decimal(rate)),)))
            case ops.DropPath(rate):
                return Layer(Call("DropPath", (positional("rate", ops.shortest_decimal(rate)),)))
            case ops.DropBlock(rate, size, scale):
                size_argument, scale_argument = Argument("size", size, 7), Argument("scale", scale, 1.0)
                drop = positional("rate", ops.shortest_decimal(rate))
                return Layer(Call("DropBlock2d", (drop, size_argument, scale_argument)))
            case ops.Identity():
                return Layer(Call("nn.Identity"))
            case _:
                assert_never(leaf.op)

    def helpers(self) -> str:
        """Return the source of the layers that torch lacks."""
        return read_helpers("resnet_spec_torch")

    def initialization(self, leaves: list[Leaf]) -> list[Statement]:
        """Return a loop over the modules that draws the weights that torch draws otherwise."""
        return initialization_loop(leaves, self, "self.named_modules()", _INITIALIZERS, _DEFAULTS, _BASES)

    def main(self, shape: Shape) -> list[str]:
        """Return the statements that print the modules and run the network."""
        return [
            "print(model)",
            'print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")',
            f"images = torch.zeros(2, {', '.join(map(str, shape))})",
            "with torch.no_grad():",
            "    print(tuple(images.shape), tuple(model(images).shape))",
        ]


_INITIALIZERS = {
    "he_normal_fan_out": 'nn.init.kaiming_normal_({w}, mode="fan_out", nonlinearity="relu")',
    "he_normal_fan_in": 'nn.init.kaiming_normal_({w}, nonlinearity="relu")',
    "lecun_normal": 'nn.init.kaiming_normal_({w}, nonlinearity="linear")',
    "glorot_uniform": "nn.init.xavier_uniform_({w})",
    "uniform_fan_in": "nn.init.kaiming_uniform_({w}, a=5**0.5)",
    "zeros": "nn.init.zeros_({w})",
    "constant": "nn.init.constant_({w}, {value})",
}
"""The statements that draw a weight."""

_DEFAULTS: dict[type, str] = {
    ops.Conv: "uniform_fan_in",
    ops.StandardizedConv: "uniform_fan_in",
    ops.ChannelConv: "uniform_fan_in",
    ops.Linear: "uniform_fan_in",
    ops.GlobalResponseNorm: "0.0",
}
"""How torch draws the weights of an operation; ones for norms."""


_BASES = {
    "SameConv2d": "nn.Conv2d",
    "StandardizedConv2d": "nn.Conv2d",
    "ChannelConv1d": "nn.Conv1d",
    "Linear2d": "nn.Linear",
    "BiasedBatchNorm2d": "nn.BatchNorm2d",
    "LayerNorm2d": "nn.LayerNorm",
    "RMSNorm2d": "nn.RMSNorm",
    "group_norm_without_bias": "nn.GroupNorm",
}
"""What the emitted layers are subclasses of."""


def _conv(function: str, channels: int, op: ops.Conv, bias: bool) -> Call:
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
            Argument("bias", op.bias, bias),
        ),
    )


def _batch_norm(channels: int, epsilon: float, decay: float, is_biased: bool, affine: bool, variance: str) -> Layer:
    momentum = float(1 - Decimal(repr(ops.shortest_decimal(decay))))
    call = Call(
        "BiasedBatchNorm2d" if is_biased else "nn.BatchNorm2d",
        (
            positional("num_features", channels, "in"),
            Argument("eps", exactly(epsilon, "EPSILON"), 1e-5),
            Argument("momentum", momentum, 0.1),
            Argument("affine", affine, True),
        ),
    )
    note = "nn.BatchNorm2d: its running variance is unbiased, n / (n - 1) of the batch's."
    return Layer(call, note=note if variance == "biased" and not is_biased else "")


def _window(op: ops.MaxPool | ops.AvgPool, default: int | None) -> tuple[Argument, ...]:
    # Without a stride, torch's pools take that of their kernel.
    stride = Argument("stride", op.stride, default if default is not None else op.kernel)
    return positional("kernel_size", op.kernel), stride


def _global_pool(kind: str, keepdims: bool) -> Layer:
    call = Call(f"nn.Adaptive{kind}Pool2d", (positional("output_size", 1),))
    if keepdims:
        return Layer(call)
    return Layer(call, "{f}({x}).flatten(1)", module=Call(f"Global{kind}Pool2d", (positional("output_size", 1),)))


def _own_weight(leaf: Leaf, start: float, operator: str) -> Layer:
    """Return a factor or a summand, whose weight is an attribute of the module that holds it."""
    (weight,) = leaf.op.weights(leaf.input_shape)
    shape = tuple(positional("channels", size, "in" if index == 0 else "") for index, size in enumerate(weight.shape))
    full = Call("torch.full", (positional("shape", Call("", shape)), positional("value", float(start))))
    axes = "[:, None, None]" if len(leaf.input_shape) == 3 and len(weight.shape) == 1 and weight.shape[0] > 1 else ""
    return Layer(Call("nn.Parameter", (positional("start", full),)), f"{{x}} {operator} {{f}}{axes}")


DIALECT = TorchDialect()
