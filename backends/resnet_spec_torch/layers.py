"""An operation to a native layer: torch's own wherever it computes exactly what the operation says."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import nn

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
from resnet_spec_torch import own


def layer(leaf: Leaf, dtype: torch.dtype) -> nn.Module:
    """The layer of a leaf. Weights are on the meta device: none is drawn here only to be replaced."""
    channels = leaf.input_shape[0]
    match leaf.op:
        case Conv(out, kernel, stride, padding, dilation, groups, bias):
            return nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias, device="meta", dtype=dtype)
        case StandardizedConv() as op:
            return own.StandardizedConv2d(channels, op, dtype)
        case ChannelConv(kernel):
            return own.ChannelConv1d(kernel, dtype)
        case Linear(out, bias):
            return nn.Linear(channels, out, bias, device="meta", dtype=dtype)
        case BatchNorm(epsilon, decay, variance, affine):
            return own.BatchNorm2d(leaf.path, channels, epsilon, decay, variance, affine, dtype)
        case GroupNorm() as op:
            return nn.GroupNorm(op.count(channels), channels, op.epsilon, device="meta", dtype=dtype)
        case LayerNorm(epsilon):
            kind = own.LayerNorm2d if len(leaf.input_shape) == 3 else nn.LayerNorm
            return kind(channels, epsilon, device="meta", dtype=dtype)
        case EvoNormS0(groups, epsilon):
            return own.EvoNorm2dS0(channels, groups, epsilon, dtype)
        case FilterResponseNorm(epsilon):
            return own.FilterResponseNorm2d(channels, epsilon, dtype)
        case Relu():
            return nn.ReLU()
        case Relu6():
            return nn.ReLU6()
        case LeakyRelu(slope):
            return nn.LeakyReLU(slope)
        case Elu():
            return nn.ELU()
        case Gelu(approximate):
            return nn.GELU("tanh" if approximate else "none")
        case Silu():
            return nn.SiLU()
        case Sigmoid():
            return nn.Sigmoid()
        case Tanh():
            return nn.Tanh()
        case HardSigmoid():
            return own.Hardsigmoid()
        case HardSwish():
            return nn.Hardswish()
        case MaxPool(kernel, stride, padding, ceil):
            return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        case AvgPool(kernel, stride, padding, ceil, count_padding):
            return nn.AvgPool2d(kernel, stride, padding, ceil, count_padding)
        case BlurPool(stride):
            return own.BlurPool2d(channels, stride, dtype)
        case GlobalAvgPool(keepdims):
            return nn.AdaptiveAvgPool2d(1) if keepdims else own.GlobalAvgPool2d(1)
        case GlobalMaxPool(keepdims):
            return nn.AdaptiveMaxPool2d(1) if keepdims else own.GlobalMaxPool2d(1)
        case ZeroPad(top, bottom, left, right):
            return nn.ZeroPad2d((left, right, top, bottom))
        case PadChannels(before, after):
            return nn.ConstantPad3d((0, 0, 0, 0, before, after), 0.0)
        case SplitSum(parts):
            return own.SplitSum2d(parts)
        case SplitSoftmax(parts, groups):
            return own.SplitSoftmax2d(parts, groups)
        case Flatten():
            return nn.Flatten()
        case Dropout(rate):
            return nn.Dropout(rate)
        case DropPath(rate):
            return own.DropPath2d(rate)
        case DropBlock() as op:
            return own.DropBlock2d(op)
        case Identity():
            return nn.Identity()
        case _:
            assert_never(leaf.op)
