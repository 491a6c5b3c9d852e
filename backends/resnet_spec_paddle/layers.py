"""An operation to a native layer: Paddle's own wherever it computes exactly what the operation says."""

from __future__ import annotations

from typing import assert_never

from paddle import nn

from resnet_spec.network.parts import Leaf
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    BlurPool,
    ChannelConv,
    Conv,
    DropBlock,
    Dropout,
    DropPath,
    Elu,
    EvoNormS0,
    FilterResponseNorm,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    Identity,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    PadChannels,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    SplitSoftmax,
    SplitSum,
    StandardizedConv,
    Tanh,
    ZeroPad,
)
from resnet_spec_paddle import own


def layer(leaf: Leaf) -> nn.Layer:
    """The layer of a leaf, in Paddle's default type. Under LazyGuard its weights have no memory: none is drawn only to be replaced."""
    channels = leaf.input_shape[0]
    match leaf.op:
        case Conv(out, kernel, stride, padding, dilation, groups, bias):
            bias_attr = None if bias else False
            return nn.Conv2D(channels, out, kernel, stride, padding, dilation, groups, bias_attr=bias_attr)
        case StandardizedConv() as op:
            return own.StandardizedConv2D(channels, op)
        case ChannelConv(kernel):
            return own.ChannelConv1D(1, 1, kernel, padding=kernel // 2, bias_attr=False)
        case Linear(out, bias):
            return nn.Linear(channels, out, bias_attr=None if bias else False)
        case BatchNorm(epsilon, decay, variance, affine):
            return own.BatchNorm2D(leaf.path, channels, epsilon, decay, variance, affine)
        case GroupNorm() as op:
            return own.GroupNorm2D(op.count(channels), channels, op.epsilon)
        case LayerNorm(epsilon):
            kind = own.LayerNorm2D if len(leaf.input_shape) == 3 else nn.LayerNorm
            return kind(channels, epsilon)
        case EvoNormS0(groups, epsilon):
            return own.EvoNorm2DS0(channels, groups, epsilon)
        case FilterResponseNorm(epsilon):
            return own.FilterResponseNorm2D(channels, epsilon)
        case Relu():
            return nn.ReLU()
        case Relu6():
            return nn.ReLU6()
        case LeakyRelu(slope):
            return nn.LeakyReLU(slope)
        case Elu():
            return nn.ELU()
        case Gelu(approximate):
            return nn.GELU(approximate)
        case Silu():
            return nn.Silu()
        case Sigmoid():
            return nn.Sigmoid()
        case Tanh():
            return nn.Tanh()
        case HardSigmoid():
            return own.Hardsigmoid()
        case HardSwish():
            return nn.Hardswish()
        case MaxPool(kernel, stride, padding, ceil) as op:
            return own.MaxPool2D(op) if ceil else nn.MaxPool2D(kernel, stride, padding)
        case AvgPool() as op:
            return own.AvgPool2D(op)
        case BlurPool(stride):
            return own.BlurPool2D(stride)
        case GlobalAvgPool(keepdims):
            return own.GlobalAvgPool2D(keepdims)
        case GlobalMaxPool(keepdims):
            return nn.AdaptiveMaxPool2D(1) if keepdims else own.GlobalMaxPool2D(1)
        case ZeroPad(top, bottom, left, right):
            return nn.ZeroPad2D([left, right, top, bottom])
        case PadChannels(before, after):
            return own.PadChannels2D(before, after)
        case SplitSum(parts):
            return own.SplitSum(parts)
        case SplitSoftmax(parts, groups):
            return own.SplitSoftmax(parts, groups)
        case Flatten():
            return nn.Flatten()
        case Dropout(rate):
            return nn.Dropout(rate)
        case DropPath(rate):
            return own.DropPath2D(rate)
        case DropBlock() as op:
            return own.DropBlock2D(op)
        case Identity():
            return nn.Identity()
        case _:
            assert_never(leaf.op)
