"""Layers that torch lacks, or that replace one of its own because that computes something else than the operation.

Maps are (batch, channels, height, width).
"""

# Annotations are not postponed in this file: torch.jit.script needs them as types, not as text.

import math
from typing import Any, TypeAlias

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec import ops
from resnet_spec.ops import DropBlock, StandardizedConv, drop_block_squares


class BiasedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose running variance is biased.

    Replaces nn.BatchNorm2d, which keeps the unbiased one.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return _normalize_batch(
                input,
                self.running_mean,
                self.running_var,
                self.num_batches_tracked,
                self.weight,
                self.bias,
                self.momentum,
                self.eps,
            )
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


# A tracer keeps a call of a wrapped function as one step: it cannot follow what depends on a shape or sets statistics.
@torch.fx.wrap
def _normalize_batch(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    num_batches_tracked: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | None,
    epsilon: float,
) -> Tensor:
    """Normalise by the batch's statistics, and update the running ones, of which the variance is biased."""
    assert running_mean is not None
    assert running_var is not None
    assert num_batches_tracked is not None
    # The backward pass reads the tensors passed here, so the module's own, which change below, must be others.
    mean, var = running_mean.clone(), running_var.clone()
    with torch.no_grad():
        num_batches_tracked.add_(1)
    new = 1.0 / float(num_batches_tracked) if momentum is None else momentum
    y = functional.batch_norm(x, mean, var, weight, bias, True, new, epsilon)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        old = running_var * (1 - new)
        running_mean.copy_(mean)
        running_var.copy_((var - old) * ((count - 1) / count) + old)
    return y


class Hardsigmoid(nn.Hardsigmoid):
    """relu6(x + 3) / 6.

    Replaces nn.Hardsigmoid, whose gradient multiplies by 1/6 in float32 even where x is float64.
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input + 3) / 6


class InstanceGroupNorm2d(nn.GroupNorm):
    """Group normalisation in which each channel is a group of its own.

    Replaces nn.GroupNorm, which raises an error for one image of one pixel, in evaluation too.
    """

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels, height, width).

    Replaces nn.LayerNorm, which normalises trailing axes only.
    """

    def forward(self, input: Tensor) -> Tensor:
        pixels = input.permute(0, 2, 3, 1)
        y = functional.layer_norm(pixels, self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class GlobalAvgPool2d(nn.AdaptiveAvgPool2d):
    """The mean over height and width: (batch, channels, height, width) -> (batch, channels).

    Replaces nn.AdaptiveAvgPool2d(1), which keeps both axes.
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(input, 1).flatten(1)


def conv_options(op: ops.Conv, dtype: torch.dtype) -> dict[str, Any]:
    """Return the keyword arguments of nn.Conv2d for a convolution. The padding ``same`` is the caller's to add."""
    return {
        "kernel_size": op.kernel,
        "stride": op.stride,
        "padding": ops.fixed_padding(op) or 0,
        "dilation": op.dilation,
        "groups": op.groups,
        "bias": op.bias,
        "device": "meta",
        "dtype": dtype,
    }


SameWindow: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""The kernel, stride and dilation of a window with the padding ``same``, each for height and width."""


def same_window(op: ops.Conv | ops.MaxPool | ops.AvgPool) -> SameWindow:
    """Return what the padding ``same`` of an operation depends on."""
    window = ops.window_of(op)
    return window.kernel, window.stride, window.dilation


@torch.fx.wrap
def pad_same(x: Tensor, window: SameWindow, value: float) -> Tensor:
    """Pad a map by what ceil(size / stride) windows need, the odd row or column at the bottom and on the right.

    torch.fx records it as one call, since the padding depends on the size of the map.
    """
    kernel, stride, dilation = window
    margins: list[int] = []
    for axis in (1, 0):  # functional.pad takes the last axis first
        size = x.shape[2 + axis]
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        missing = max(0, ((size + stride[axis] - 1) // stride[axis] - 1) * stride[axis] + extent - size)
        margins += [missing // 2, missing - missing // 2]
    return functional.pad(x, margins, value=value)


class SameConv2d(nn.Conv2d):
    """A convolution with the padding ``same`` and any stride.

    Replaces nn.Conv2d, whose padding "same" is for stride 1.
    """

    def __init__(self, channels: int, op: ops.Conv, dtype: torch.dtype) -> None:
        super().__init__(channels, op.out, **conv_options(op, dtype))
        self._window = same_window(op)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(pad_same(input, self._window, 0.0), self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{nn.Conv2d.extra_repr(self)}, padding=same"


class SameMaxPool2d(nn.Module):
    """The maximum over a window with the padding ``same``, which counts as minus infinity."""

    def __init__(self, op: ops.MaxPool) -> None:
        super().__init__()
        self.op = op
        self._window = same_window(op)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(pad_same(x, self._window, -math.inf), self._window[0], self._window[1])

    def extra_repr(self) -> str:
        return f"kernel_size={self.op.kernel}, stride={self.op.stride}, padding=same"


class SameAvgPool2d(nn.Module):
    """The mean over a window with the padding ``same``, with or without the zeros of the padding."""

    def __init__(self, op: ops.AvgPool) -> None:
        super().__init__()
        self.op = op
        self._window = same_window(op)
        self._counts_padding = op.count_padding

    def forward(self, x: Tensor) -> Tensor:
        mean = self._average(x)
        return mean if self._counts_padding else mean / self._average(torch.ones_like(x[:1, :1]))

    def _average(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(pad_same(x, self._window, 0.0), self._window[0], self._window[1])

    def extra_repr(self) -> str:
        counted = f", count_include_pad={self._counts_padding}"
        return f"kernel_size={self.op.kernel}, stride={self.op.stride}, padding=same{counted}"


class StandardizedConv2d(nn.Conv2d):
    """A convolution with weight standardisation: each filter is shifted to mean 0 and scaled to variance 1 first.

    If it is scaled, each filter is then multiplied by a learned gain and a constant.
    """

    gain: Tensor | None

    def __init__(self, channels: int, op: StandardizedConv, input_shape: ops.Shape, dtype: torch.dtype) -> None:
        super().__init__(channels, op.out, **conv_options(op.to_conv(), dtype))
        self.epsilon = op.epsilon
        self._window = same_window(op.to_conv()) if op.padding == "same" else None
        self.scale = op.fan_in_factor(input_shape)
        gain = nn.Parameter(torch.empty(op.out, 1, 1, 1, device="meta", dtype=dtype)) if op.scaled else None
        self.register_parameter("gain", gain)

    def forward(self, input: Tensor) -> Tensor:
        flat = self.weight.flatten(1)  # (out, in / groups * kernel)
        variance, mean = torch.var_mean(flat, dim=1, correction=0, keepdim=True)
        kernel = ((flat - mean) / (variance + self.epsilon).sqrt()).view_as(self.weight)
        gain = self.gain  # torch.jit.script narrows the type of a local name alone
        if gain is not None:
            kernel = kernel * (gain * self.scale)
        if self._window is not None:
            input = pad_same(input, self._window, 0.0)
        return self._conv_forward(input, kernel, self.bias)

    def extra_repr(self) -> str:
        same = ", padding=same" if self._window else ""
        scale = f", scale={self.scale:.6g}" if self.gain is not None else ""
        return f"{nn.Conv2d.extra_repr(self)}{same}, epsilon={self.epsilon:.6g}{scale}"


class ChannelConv1d(nn.Conv1d):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def __init__(self, kernel: int, dtype: torch.dtype) -> None:
        super().__init__(1, 1, kernel, padding=kernel // 2, bias=False, device="meta", dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.unsqueeze(1), self.weight, self.bias).squeeze(1)


def make_group_norm(op: ops.GroupNorm, channels: int, epsilon: float, dtype: torch.dtype) -> nn.GroupNorm:
    """Return a group normalisation, without a shift if the operation has none."""
    groups = op.group_count(channels)
    kind = InstanceGroupNorm2d if groups == channels else nn.GroupNorm
    norm = kind(groups, channels, epsilon, op.affine, device="meta", dtype=dtype)
    if not op.bias:
        norm.register_parameter("bias", None)
    return norm


class SimpleNorm(nn.Module):
    """x over the standard deviation of its channels, scaled: (batch, channels, ...), the variance over n - 1."""

    weight: Tensor

    def __init__(self, channels: int, epsilon: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_parameter("weight", nn.Parameter(torch.empty(channels, device="meta", dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        y = x / (x.var(dim=[1], correction=1, keepdim=True) + self.epsilon).sqrt()
        return y * self.weight.reshape(-1, *[1] * (x.ndim - 2))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, epsilon={self.epsilon:.6g}"


class GlobalResponseNorm2d(nn.Module):
    """Global response normalisation: x + weight * x * n + bias, with n a channel's norm over the mean of all norms."""

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, epsilon: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.epsilon = epsilon
        for name in ("weight", "bias"):
            self.register_parameter(name, nn.Parameter(torch.empty(channels, device="meta", dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        ratio = norm / (norm.mean(dim=1, keepdim=True) + self.epsilon)
        return x + (x * ratio * self.weight[:, None, None] + self.bias[:, None, None])

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, epsilon={self.epsilon:.6g}"


class SpaceToDepth(nn.Module):
    """Tiles of pixels as channels, in another order than nn.PixelUnshuffle's."""

    def __init__(self, op: ops.SpaceToDepth) -> None:
        super().__init__()
        self.size = op.size
        self.order = op.order
        # The axes are batch, channel, tile's row, row in the tile, tile's column, column in the tile.
        axes = [{"channel": 1, "row": 3, "column": 5}[name] for name in op.order.split("_")]
        self._axes = [0, *axes, 2, 4]

    def forward(self, x: Tensor) -> Tensor:
        tiles = x.unflatten(3, (-1, self.size)).unflatten(2, (-1, self.size))
        return tiles.permute(self._axes).flatten(1, 3)

    def extra_repr(self) -> str:
        return f"size={self.size}, order={self.order}"


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"factor={self.factor:.6g}"


class OwnScale(nn.Module):
    """Multiplication by a weight of the module that holds this one, with one number per channel or for all."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * weight.reshape(-1, *[1] * (x.ndim - 2))


class OwnShift(nn.Module):
    """Addition of a weight of the module that holds this one, with one number per channel or for all."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x + weight.reshape(-1, *[1] * (x.ndim - 2))


class EvoNorm2dS0(nn.Module):
    """EvoNorm-S0: x * sigmoid(v * x) over the standard deviation of x's group of channels, scaled and shifted."""

    weight: Tensor
    bias: Tensor
    v: Tensor | None

    def __init__(self, channels: int, groups: int, epsilon: float, act: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon
        for name in ("weight", "bias", *(["v"] if act else [])):
            self.register_parameter(name, nn.Parameter(torch.empty(channels, device="meta", dtype=dtype)))
        if not act:
            self.register_parameter("v", None)

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1)
        std = (grouped.var(dim=[2], correction=0, keepdim=True) + self.epsilon).sqrt()
        v = self.v  # torch.jit.script narrows the type of a local name alone
        gated = x if v is None else x * torch.sigmoid(x * v[:, None, None])
        y = (gated.reshape(grouped.shape) / std).reshape(x.shape)
        return y * self.weight[:, None, None] + self.bias[:, None, None]

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, groups={self.groups}, epsilon={self.epsilon:.6g}"


class FilterResponseNorm2d(nn.Module):
    """Filter response normalisation: x over its root mean square in each channel, scaled, shifted, then max(y, tau)."""

    weight: Tensor
    bias: Tensor
    tau: Tensor

    def __init__(self, channels: int, epsilon: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.epsilon = epsilon
        for name in ("weight", "bias", "tau"):
            self.register_parameter(name, nn.Parameter(torch.empty(channels, device="meta", dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        y = x / (x.square().mean(dim=[2, 3], keepdim=True) + self.epsilon).sqrt()
        return torch.maximum(y * self.weight[:, None, None] + self.bias[:, None, None], self.tau[:, None, None])

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, epsilon={self.epsilon:.6g}"


class BlurPool2d(nn.Module):
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, divided by 16.

    The kernel is a buffer, so that it follows the model's dtype and device, and is left out of the state dict.
    """

    kernel: Tensor

    def __init__(self, channels: int, stride: int, dtype: torch.dtype) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0], dtype=dtype) / 4
        self.register_buffer("kernel", torch.outer(row, row).expand(channels, 1, 3, 3).clone(), persistent=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, self.kernel, stride=self.stride, groups=x.shape[1])

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class SplitSum2d(nn.Module):
    """The sum of equal parts of the channels: (batch, parts * channels, ...) -> (batch, channels, ...)."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, [self.parts, -1]).sum(dim=1)

    def extra_repr(self) -> str:
        return f"parts={self.parts}"


class SplitSoftmax2d(nn.Module):
    """The softmax over the parts of each group of channels, channel by channel."""

    def __init__(self, parts: int, groups: int) -> None:
        super().__init__()
        self.parts = parts
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
        split = x.reshape(x.shape[0], self.groups, self.parts, -1).transpose(1, 2)
        return split.softmax(dim=1).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"parts={self.parts}, groups={self.groups}"


class DropPath2d(nn.Module):
    """Stochastic depth: in training an image's map is zeroed with probability ``rate``, else divided by 1 - rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return _drop_paths(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        return f"rate={self.rate:.6g}"


@torch.fx.wrap
def _drop_paths(x: Tensor, rate: float) -> Tensor:
    kept = x.new_empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * (kept / (1 - rate))


class DropBlock2d(nn.Module):
    """DropBlock: in training squares of the map become zero, the same in all channels, and the rest is rescaled."""

    def __init__(self, op: DropBlock) -> None:
        super().__init__()
        self.rate = op.rate
        self.size = op.size
        self.scale = op.scale

    def forward(self, x: Tensor) -> Tensor:
        return _drop_squares(x, self.rate, self.size, self.scale) if self.training and self.rate else x

    def extra_repr(self) -> str:
        return f"rate={self.rate:.6g}, size={self.size}, scale={self.scale:.6g}"


@torch.fx.wrap
def _drop_squares(x: Tensor, rate: float, size: int, scale: float) -> Tensor:
    batch, _, height, width = x.shape
    square_height, square_width, probability = drop_block_squares(rate, size, scale, height, width)
    centres = x.new_empty([batch, 1, height, width]).bernoulli_(probability)
    # A pixel is dropped if a square that covers it has its centre there. A square of even size has one more row above
    # its centre than below, and one more column to the left.
    margins = [(square_width - 1) // 2, square_width // 2, (square_height - 1) // 2, square_height // 2]
    kept = 1 - functional.max_pool2d(functional.pad(centres, margins), [square_height, square_width], stride=1)
    return x * (kept * (kept.numel() / (kept.sum() + 1e-7)))
