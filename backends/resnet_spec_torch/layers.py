"""An operation to a native layer: torch's own wherever it computes exactly what the operation says."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.network import Leaf
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    Elu,
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
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
    ZeroPad,
)


def layer(leaf: Leaf, dtype: torch.dtype) -> nn.Module:
    """The layer of a leaf. Weights are on the meta device: none is drawn here only to be replaced."""
    channels = leaf.given[0]
    match leaf.op:
        case Conv(out, kernel, stride, padding, dilation, groups, bias):
            return nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias, device="meta", dtype=dtype)
        case Linear(out, bias):
            return nn.Linear(channels, out, bias, device="meta", dtype=dtype)
        case BatchNorm(epsilon, decay, variance, affine):
            return BatchNorm2d(leaf.path, channels, epsilon, decay, variance, affine, dtype)
        case GroupNorm(groups, epsilon):
            return nn.GroupNorm(groups, channels, epsilon, device="meta", dtype=dtype)
        case LayerNorm(epsilon):
            kind = LayerNorm2d if len(leaf.given) == 3 else nn.LayerNorm
            return kind(channels, epsilon, device="meta", dtype=dtype)
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
            return Hardsigmoid()
        case HardSwish():
            return nn.Hardswish()
        case MaxPool(kernel, stride, padding, ceil):
            return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        case AvgPool(kernel, stride, padding, ceil, count_padding):
            return nn.AvgPool2d(kernel, stride, padding, ceil, count_padding)
        case GlobalAvgPool(keepdims):
            return nn.AdaptiveAvgPool2d(1) if keepdims else GlobalAvgPool2d(1)
        case GlobalMaxPool(keepdims):
            return nn.AdaptiveMaxPool2d(1) if keepdims else GlobalMaxPool2d(1)
        case ZeroPad(top, bottom, left, right):
            return nn.ZeroPad2d((left, right, top, bottom))
        case Flatten():
            return nn.Flatten()
        case Dropout(rate):
            return nn.Dropout(rate)
        case Identity():
            return nn.Identity()
        case _:
            assert_never(leaf.op)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's own, which keeps the unbiased variance; the biased one can be asked for, and errors say which layer."""

    def __init__(
        self,
        path: str,
        channels: int,
        epsilon: float,
        decay: float,
        variance: Literal["unbiased", "biased"],
        affine: bool,
        dtype: torch.dtype,
    ) -> None:
        # momentum is the weight of the new value here: one minus the decay
        super().__init__(channels, epsilon, 1 - decay, affine, device="meta", dtype=dtype)
        self.path = path
        self.decay = decay
        self.variance = variance

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = input.numel() // input.shape[1]
        if count == 1:
            raise ValueError(
                f"{self.path} is given one value a channel, {tuple(input.shape)}, which has no variance to train with; "
                "it needs a larger batch or larger images"
            )
        if self.variance == "unbiased":
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        # The way back reads what is handed in here, so our own must be others.
        mean, var = self.running_mean.clone(), self.running_var.clone()
        y = functional.batch_norm(input, mean, var, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
        with torch.no_grad():
            old = self.running_var * self.decay
            self.running_mean.copy_(mean)
            self.running_var.copy_((var - old) * ((count - 1) / count) + old)
            self.num_batches_tracked.add_(1)
        return y


class Hardsigmoid(nn.Hardsigmoid):
    """relu6(x + 3) / 6: the gradient of torch's own multiplies by a sixth in float32."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input + 3) / 6


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels, height, width)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalAvgPool2d(nn.AdaptiveAvgPool2d):
    """The mean over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(input, 1).flatten(1)


class GlobalMaxPool2d(nn.AdaptiveMaxPool2d):
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_max_pool2d(input, 1).flatten(1)
