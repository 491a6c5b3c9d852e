"""Translate an operation to a layer: Paddle's own wherever it computes exactly what the operation defines."""

from __future__ import annotations

from typing import assert_never

from paddle import nn

from resnet_spec import ops
from resnet_spec.network.parts import Leaf
from resnet_spec_paddle import custom_layers, emitted_layers


def make_layer(leaf: Leaf) -> nn.Layer:
    """Return the layer of an operation, in Paddle's default dtype.

    Under LazyGuard its weights have no memory: drawing values for them would be wasted, since ``fill`` replaces them.
    """
    channels = leaf.input_shape[0]
    match leaf.op:
        case ops.Conv(out, kernel, stride, _, dilation, groups, bias) as op:
            padding, bias_attr = ops.fixed_padding(op), None if bias else False
            if padding is None:
                return custom_layers.SameConv2D(channels, op)
            return nn.Conv2D(channels, out, kernel, stride, padding, dilation, groups, bias_attr=bias_attr)
        case ops.StandardizedConv() as op:
            return custom_layers.StandardizedConv2D(channels, op, leaf.input_shape)
        case ops.ChannelConv(kernel):
            return custom_layers.ChannelConv1D(1, 1, kernel, padding=kernel // 2, bias_attr=False)
        case ops.Linear(out, bias):
            linear = emitted_layers.Linear2D if len(leaf.input_shape) == 3 else nn.Linear
            return linear(channels, out, bias_attr=None if bias else False)
        case ops.BatchNorm(epsilon, decay, variance, affine):
            return custom_layers.BatchNorm2D(leaf.path, channels, epsilon, decay, variance, affine)
        case ops.GroupNorm() as op:
            attributes = custom_layers.affine_attributes(op)
            return emitted_layers.GroupNorm2D(op.group_count(channels), channels, op.epsilon, **attributes)
        case ops.LayerNorm(epsilon) as op:
            norm = custom_layers.LayerNorm2D if len(leaf.input_shape) == 3 else emitted_layers.LayerNorm
            return norm(channels, epsilon, **custom_layers.affine_attributes(op))
        case ops.RmsNorm(epsilon, variance=variance):
            return custom_layers.RMSNorm(channels, epsilon, variance)
        case ops.GlobalResponseNorm(epsilon):
            return custom_layers.GlobalResponseNorm2D(channels, epsilon)
        case ops.EvoNormS0() as op:
            return custom_layers.EvoNorm2DS0(channels, op.group_count(channels), op.epsilon, op.act)
        case ops.FilterResponseNorm(epsilon):
            return custom_layers.FilterResponseNorm2D(channels, epsilon)
        case ops.Relu():
            return nn.ReLU()
        case ops.Relu6():
            return nn.ReLU6()
        case ops.SquaredRelu():
            return emitted_layers.SquaredReLU()
        case ops.Prelu(_, per):
            return custom_layers.PReLU(channels if per == "channel" else 1)
        case ops.LeakyRelu(slope):
            return custom_layers.LeakyReLU(slope)
        case ops.Elu():
            return nn.ELU()
        case ops.Gelu(approximate):
            return nn.GELU(approximate)
        case ops.Silu():
            return nn.Silu()
        case ops.Sigmoid():
            return nn.Sigmoid()
        case ops.Tanh():
            return nn.Tanh()
        case ops.HardSigmoid():
            return custom_layers.Hardsigmoid()
        case ops.HardSwish():
            return nn.Hardswish()
        case ops.MaxPool(kernel, stride, ceil=ceil) as op:
            padding = ops.fixed_padding(op)
            if ceil or padding is None:
                return custom_layers.MaxPool2D(op)
            return nn.MaxPool2D(kernel, stride, padding)
        case ops.AvgPool() as op:
            return custom_layers.AvgPool2D(op)
        case ops.BlurPool(stride):
            return custom_layers.BlurPool2D(stride)
        case ops.GlobalAvgPool(keepdims):
            return custom_layers.GlobalAvgPool2D(keepdims)
        case ops.GlobalMaxPool(keepdims):
            return nn.AdaptiveMaxPool2D(1) if keepdims else emitted_layers.GlobalMaxPool2D(1)
        case ops.AdaptiveAvgPool(size):
            return custom_layers.AdaptiveAvgPool2D(ops.per_axis(size))
        case ops.ChannelAvgPool():
            return emitted_layers.ChannelAvgPool2D()
        case ops.ChannelMaxPool():
            return emitted_layers.ChannelMaxPool2D()
        case ops.ZeroPad(top, bottom, left, right):
            return nn.ZeroPad2D([left, right, top, bottom])
        case ops.PadChannels(before, after):
            return custom_layers.PadChannels2D(before, after)
        case ops.SplitSum(parts):
            return custom_layers.SplitSum(parts)
        case ops.SplitSoftmax(parts, groups):
            return custom_layers.SplitSoftmax(parts, groups)
        case ops.SpaceToDepth() as op:
            return custom_layers.SpaceToDepth(op)
        case ops.ChannelShuffle(groups):
            return nn.ChannelShuffle(groups)
        case ops.Upsample(factor, mode):
            return custom_layers.Upsample(factor, mode)
        case ops.Scale() as op:
            return custom_layers.OwnScale() if op.learned else custom_layers.Scale(op.factor)
        case ops.Shift():
            return custom_layers.OwnShift()
        case ops.Flatten():
            return nn.Flatten()
        case ops.Dropout(rate):
            return nn.Dropout(rate)
        case ops.DropPath(rate):
            return custom_layers.DropPath2D(rate)
        case ops.DropBlock() as op:
            return custom_layers.DropBlock2D(op)
        case ops.Identity():
            return nn.Identity()
        case _:
            assert_never(leaf.op)
