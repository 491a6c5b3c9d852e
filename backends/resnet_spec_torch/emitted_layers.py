"""Layers that torch lacks, or has with another meaning, from which ``resnet-spec emit`` copies those it needs.

Maps are (batch, channels, height, width).
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional


class BiasedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose running variance is biased; nn.BatchNorm2d keeps the unbiased one."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.running_var is None:
            return super().forward(input)
        old, momentum = self.running_var.clone(), self.momentum or 0.0
        y = super().forward(input)
        count = input.numel() // input.shape[1]
        new = self.running_var - old * (1 - momentum)
        self.running_var = old * (1 - momentum) + new * ((count - 1) / count)
        return y


class HardSigmoid(nn.Module):
    """relu6(x + 3) / 6; the gradient of nn.Hardsigmoid multiplies by 1/6 in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu6(x + 3) / 6


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel; nn.LayerNorm normalises the last axes."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RMSNorm2d(nn.RMSNorm):
    """Root mean square normalisation over the channels of each pixel; nn.RMSNorm normalises the last axes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def group_norm_without_bias(groups: int, channels: int, eps: float) -> nn.GroupNorm:
    """Return a group normalisation with a scale and no shift, which nn.GroupNorm has only together."""
    norm = nn.GroupNorm(groups, channels, eps)
    norm.register_parameter("bias", None)
    return norm


class SimpleNorm(nn.Module):
    """x over the standard deviation of the channels of each pixel, times a scale per channel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x / (x.var(dim=1, keepdim=True) + self.eps).sqrt()
        return y * self.weight.reshape(-1, *[1] * (x.ndim - 2))


class GlobalResponseNorm2d(nn.Module):
    """x + weight * x * n + bias, where n is the norm of a channel over the mean norm (Woo et al. 2023)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        ratio = norm / (norm.mean(dim=1, keepdim=True) + self.eps)
        return x + (x * ratio * self.weight[:, None, None] + self.bias[:, None, None])


class EvoNorm2dS0(nn.Module):
    """x * sigmoid(v * x) over the standard deviation of a group, scaled and shifted (Liu et al. 2020)."""

    def __init__(self, channels: int, groups: int, eps: float, act: bool = True) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels)) if act else None

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1)
        std = (grouped.var(dim=2, correction=0, keepdim=True) + self.eps).sqrt()
        gated = x if self.v is None else x * torch.sigmoid(x * self.v[:, None, None])
        y = (gated.reshape(grouped.shape) / std).reshape(x.shape)
        return y * self.weight[:, None, None] + self.bias[:, None, None]


class FilterResponseNorm2d(nn.Module):
    """x over its root mean square in each channel, scaled, shifted, then max(y, tau) (Singh and Krishnan 2019)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x / (x.square().mean(dim=(2, 3), keepdim=True) + self.eps).sqrt()
        return torch.maximum(y * self.weight[:, None, None] + self.bias[:, None, None], self.tau[:, None, None])


def pad_same(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0) -> Tensor:
    """Pad a map as TensorFlow does, so that size / stride windows fit: the odd pixel at the bottom and on the right."""
    margins: list[int] = []
    for axis in (1, 0):  # functional.pad takes the last axis first
        size = x.shape[2 + axis]
        missing = max(0, ((size - 1) // stride[axis]) * stride[axis] + kernel[axis] - size)
        margins += [missing // 2, missing - missing // 2]
    return functional.pad(x, margins, value=value)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return a value for the height and one for the width."""
    return value if isinstance(value, tuple) else (value, value)


class SameConv2d(nn.Conv2d):
    """A convolution whose padding depends on the size of the map, as TensorFlow's SAME does."""

    def forward(self, input: Tensor) -> Tensor:
        (height, width), (down, right) = pair(self.kernel_size), pair(self.dilation)  # type: ignore[arg-type]
        extent = (down * (height - 1) + 1, right * (width - 1) + 1)
        return super().forward(pad_same(input, extent, pair(self.stride)))  # type: ignore[arg-type]


class SameMaxPool2d(nn.Module):
    """The maximum over a window whose padding depends on the size of the map, as TensorFlow's SAME does."""

    def __init__(self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] = 1) -> None:
        super().__init__()
        self.kernel, self.stride = pair(kernel_size), pair(stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(pad_same(x, self.kernel, self.stride, -math.inf), self.kernel, self.stride)


class SameAvgPool2d(nn.Module):
    """The mean over a window whose padding depends on the size of the map, as TensorFlow's SAME does."""

    def __init__(
        self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] = 1, count_include_pad: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride = pair(kernel_size), pair(stride)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        mean = self.average(x)
        return mean if self.count_include_pad else mean / self.average(torch.ones_like(x[:1, :1]))

    def average(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose kernels are standardised first, and then scaled if there is a gain (Qiao et al. 2019)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        eps: float = 1e-6,
        scaled: bool = False,
        factor: float = 1.0,
        same: bool = False,
    ) -> None:
        super().__init__(in_channels, channels, kernel_size, stride, padding, dilation, groups, bias)
        self.eps = eps
        self.same = same
        self.factor = factor / math.sqrt(self.weight[0].numel())
        self.gain = nn.Parameter(torch.ones(channels, 1, 1, 1)) if scaled else None

    def forward(self, input: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        variance, mean = torch.var_mean(flat, dim=1, correction=0, keepdim=True)
        kernel = ((flat - mean) / (variance + self.eps).sqrt()).view_as(self.weight)
        if self.gain is not None:
            kernel = kernel * (self.gain * self.factor)
        if self.same:
            (height, width), (down, right) = pair(self.kernel_size), pair(self.dilation)  # type: ignore[arg-type]
            extent = (down * (height - 1) + 1, right * (width - 1) + 1)
            input = pad_same(input, extent, pair(self.stride))  # type: ignore[arg-type]
        return self._conv_forward(input, kernel, self.bias)


class Linear2d(nn.Linear):
    """A fully connected layer over the channels of each pixel; nn.Linear reads the last axis."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelConv1d(nn.Conv1d):
    """A convolution along the channels of (batch, channels)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.unsqueeze(1)).squeeze(1)


class SquaredReLU(nn.Module):
    """max(x, 0) ^ 2."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x).square()


class GlobalAvgPool2d(nn.AdaptiveAvgPool2d):
    """The mean over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flatten(1)


class GlobalMaxPool2d(nn.AdaptiveMaxPool2d):
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_max_pool2d(input, 1).flatten(1)


class ChannelAvgPool2d(nn.Module):
    """The mean over the channels: (batch, channels, height, width) -> (batch, 1, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True)


class ChannelMaxPool2d(nn.Module):
    """The maximum over the channels: (batch, channels, height, width) -> (batch, 1, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.max(dim=1, keepdim=True).values


class BlurPool2d(nn.Module):
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, divided by 16 (Zhang 2019)."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
        kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, kernel, stride=self.stride, groups=x.shape[1])


class SplitSum(nn.Module):
    """The sum of equal parts of the channels."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, [self.parts, -1]).sum(dim=1)


class SplitSoftmax(nn.Module):
    """The softmax over the parts of each group of channels (Zhang et al. 2020, ResNeSt)."""

    def __init__(self, parts: int, groups: int = 1) -> None:
        super().__init__()
        self.parts = parts
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
        split = x.reshape(x.shape[0], self.groups, self.parts, -1).transpose(1, 2)
        return split.softmax(dim=1).reshape(x.shape)


class SpaceToDepth(nn.Module):
    """Tiles of pixels as channels, in another order than nn.PixelUnshuffle's."""

    def __init__(self, size: int, order: str) -> None:
        super().__init__()
        self.size = size
        # The axes are batch, channel, tile's row, row in the tile, tile's column, column in the tile.
        axes = [{"channel": 1, "row": 3, "column": 5}[name] for name in order.split("_")]
        self.axes = [0, *axes, 2, 4]

    def forward(self, x: Tensor) -> Tensor:
        tiles = x.unflatten(3, (-1, self.size)).unflatten(2, (-1, self.size))
        return tiles.permute(self.axes).flatten(1, 3)


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class DropPath(nn.Module):
    """Stochastic depth: in training, the map of an image is zero with probability ``rate``, else over 1 - rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = x.new_empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))


class DropBlock2d(nn.Module):
    """In training, squares of the map become zero, the same in all channels, and the rest is scaled."""

    def __init__(self, rate: float, size: int = 7, scale: float = 1.0) -> None:
        super().__init__()
        self.rate = rate
        self.size = size
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        batch, _, height, width = x.shape
        rows, columns = min(self.size, height), min(self.size, width)
        places = (height - rows + 1) * (width - columns + 1)
        probability = min(1.0, self.scale * self.rate * height * width / (rows * columns) / places)
        centres = x.new_empty([batch, 1, height, width]).bernoulli_(probability)
        margins = [(columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2]
        kept = 1 - functional.max_pool2d(functional.pad(centres, margins), [rows, columns], stride=1)
        return x * (kept * (kept.numel() / (kept.sum() + 1e-7)))


def resize_like(x: Tensor, first: Tensor) -> Tensor:
    """Return a map in the size of another, of the nearest pixels."""
    rows = torch.arange(first.shape[2], device=x.device) * x.shape[2] // first.shape[2]
    columns = torch.arange(first.shape[3], device=x.device) * x.shape[3] // first.shape[3]
    return x.index_select(2, rows).index_select(3, columns)


def numbered(name: str, *layers: nn.Module, start: int = 0) -> nn.Sequential:
    """Return layers that run one after another, under a name with a number."""
    return nn.Sequential(OrderedDict((f"{name}{number}", layer) for number, layer in enumerate(layers, start)))
