"""Translate an operation to a layer: torch's own wherever it computes exactly what the operation defines."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

import torch
from torch import nn

from resnet_spec import ops
from resnet_spec.network.parts import Leaf
from resnet_spec_torch import custom_layers, emitted_layers


def make_layer(leaf: Leaf, dtype: torch.dtype) -> nn.Module:
    """Return the layer of an operation. Its weights are on the meta device, since ``fill`` replaces them anyway."""
    channels = leaf.input_shape[0]
    match leaf.op:
        case ops.Conv() as op:
            if op.padding == "same":
                return custom_layers.SameConv2d(channels, op, dtype)
            return nn.Conv2d(channels, op.out, **custom_layers.conv_options(op, dtype))
        case ops.StandardizedConv() as op:
            return custom_layers.StandardizedConv2d(channels, op, leaf.input_shape, dtype)
        case ops.ChannelConv(kernel):
            return custom_layers.ChannelConv1d(kernel, dtype)
        case ops.Linear(out, bias):
            linear = emitted_layers.Linear2d if len(leaf.input_shape) == 3 else nn.Linear
            return linear(channels, out, bias, device="meta", dtype=dtype)
        case ops.BatchNorm(epsilon, decay, variance, affine):
            norm = nn.BatchNorm2d if variance == "unbiased" else custom_layers.BiasedBatchNorm2d
            # torch's momentum is the weight of the new value, which is one minus the decay.
            momentum = float(1 - Decimal(repr(ops.shortest_decimal(decay)))) if dtype == torch.float32 else 1 - decay
            return norm(channels, _readable(epsilon, dtype), momentum, affine, device="meta", dtype=dtype)
        case ops.GroupNorm() as op:
            return custom_layers.make_group_norm(op, channels, _readable(op.epsilon, dtype), dtype)
        case ops.LayerNorm(epsilon, bias=bias, affine=affine):
            layer_norm = custom_layers.LayerNorm2d if len(leaf.input_shape) == 3 else nn.LayerNorm
            return layer_norm(channels, _readable(epsilon, dtype), affine, bias, device="meta", dtype=dtype)
        case ops.RmsNorm(epsilon, variance=True):
            return custom_layers.SimpleNorm(channels, epsilon, dtype)
        case ops.RmsNorm(epsilon):
            rms_norm = emitted_layers.RMSNorm2d if len(leaf.input_shape) == 3 else nn.RMSNorm
            return rms_norm(channels, _readable(epsilon, dtype), device="meta", dtype=dtype)
        case ops.GlobalResponseNorm(epsilon):
            return custom_layers.GlobalResponseNorm2d(channels, epsilon, dtype)
        case ops.EvoNormS0() as op:
            return custom_layers.EvoNorm2dS0(channels, op.group_count(channels), op.epsilon, op.act, dtype)
        case ops.FilterResponseNorm(epsilon):
            return custom_layers.FilterResponseNorm2d(channels, epsilon, dtype)
        case ops.Relu():
            return nn.ReLU()
        case ops.Relu6():
            return nn.ReLU6()
        case ops.SquaredRelu():
            return emitted_layers.SquaredReLU()
        case ops.Prelu(_, per):
            return nn.PReLU(channels if per == "channel" else 1, device="meta", dtype=dtype)
        case ops.LeakyRelu(slope):
            return nn.LeakyReLU(_readable(slope, dtype))
        case ops.Elu():
            return nn.ELU()
        case ops.Gelu(approximate):
            return nn.GELU("tanh" if approximate else "none")
        case ops.Silu():
            return nn.SiLU()
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
            if padding is None:
                return custom_layers.SameMaxPool2d(op)
            return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        case ops.AvgPool(kernel, stride, ceil=ceil, count_padding=count_padding) as op:
            padding = ops.fixed_padding(op)
            if padding is None:
                return custom_layers.SameAvgPool2d(op)
            return nn.AvgPool2d(kernel, stride, padding, ceil, count_padding)
        case ops.BlurPool(stride):
            return custom_layers.BlurPool2d(channels, stride, dtype)
        case ops.GlobalAvgPool(keepdims):
            return nn.AdaptiveAvgPool2d(1) if keepdims else custom_layers.GlobalAvgPool2d(1)
        case ops.GlobalMaxPool(keepdims):
            return nn.AdaptiveMaxPool2d(1) if keepdims else emitted_layers.GlobalMaxPool2d(1)
        case ops.AdaptiveAvgPool(size):
            return nn.AdaptiveAvgPool2d(size)
        case ops.ChannelAvgPool():
            return emitted_layers.ChannelAvgPool2d()
        case ops.ChannelMaxPool():
            return emitted_layers.ChannelMaxPool2d()
        case ops.ZeroPad(top, bottom, left, right):
            return nn.ZeroPad2d((left, right, top, bottom))
        case ops.PadChannels(before, after):
            return nn.ConstantPad3d((0, 0, 0, 0, before, after), 0.0)
        case ops.SplitSum(parts):
            return custom_layers.SplitSum2d(parts)
        case ops.SplitSoftmax(parts, groups):
            return custom_layers.SplitSoftmax2d(parts, groups)
        case ops.SpaceToDepth() as op:
            if op.order == "channel_row_column":
                return nn.PixelUnshuffle(op.size)
            return custom_layers.SpaceToDepth(op)
        case ops.ChannelShuffle(groups):
            return nn.ChannelShuffle(groups)
        case ops.Upsample(factor, mode):
            return nn.Upsample(scale_factor=factor, mode=mode)
        case ops.Scale() as op:
            return custom_layers.OwnScale() if op.learned else custom_layers.Scale(op.factor)
        case ops.Shift():
            return custom_layers.OwnShift()
        case ops.Flatten():
            return nn.Flatten()
        case ops.Dropout(rate):
            return nn.Dropout(_readable(rate, dtype))
        case ops.DropPath(rate):
            return custom_layers.DropPath2d(rate)
        case ops.DropBlock() as op:
            return custom_layers.DropBlock2d(op)
        case ops.Identity():
            return nn.Identity()
        case _:
            assert_never(leaf.op)


def _readable(value: float, dtype: torch.dtype) -> float:
    """Return an argument as torch prints it well: 0.1 for the float32 next to it, if the layer computes in float32."""
    return ops.shortest_decimal(value) if dtype == torch.float32 else value
