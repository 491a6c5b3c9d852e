"""Layers that torch lacks, or that replace one of its own because that computes something else than the operation.

Maps are (batch, channels, height, width).
"""

# Annotations are not postponed in this file: torch.jit.script needs them as types, not as text.

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class GlobalMaxPool2d(nn.AdaptiveMaxPool2d):
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels).

    Replaces nn.AdaptiveMaxPool2d(1), which keeps both axes.
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_max_pool2d(input, 1).flatten(1)


class StandardizedConv2d(nn.Conv2d):
    """A convolution with weight standardisation: each filter is shifted to mean 0 and scaled to variance 1 first."""

    def __init__(self, channels: int, op: StandardizedConv, dtype: torch.dtype) -> None:
        sizes = (op.kernel, op.stride, op.padding, op.dilation)
        super().__init__(channels, op.out, *sizes, op.groups, op.bias, device="meta", dtype=dtype)
        self.epsilon = op.epsilon

    def forward(self, input: Tensor) -> Tensor:
        flat = self.weight.flatten(1)  # (out, in / groups * kernel^2)
        variance, mean = torch.var_mean(flat, dim=[1], correction=0, keepdim=True)
        kernel = ((flat - mean) / (variance + self.epsilon).sqrt()).view_as(self.weight)
        return self._conv_forward(input, kernel, self.bias)

    def extra_repr(self) -> str:
        return f"{nn.Conv2d.extra_repr(self)}, epsilon={self.epsilon:.6g}"


class ChannelConv1d(nn.Conv1d):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def __init__(self, kernel: int, dtype: torch.dtype) -> None:
        super().__init__(1, 1, kernel, padding=kernel // 2, bias=False, device="meta", dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.unsqueeze(1), self.weight, self.bias).squeeze(1)


class EvoNorm2dS0(nn.Module):
    """EvoNorm-S0: x * sigmoid(v * x) over the standard deviation of x's group of channels, scaled and shifted."""

    weight: Tensor
    bias: Tensor
    v: Tensor

    def __init__(self, channels: int, groups: int, epsilon: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon
        for name in ("weight", "bias", "v"):
            self.register_parameter(name, nn.Parameter(torch.empty(channels, device="meta", dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1)
        std = (grouped.var(dim=[2], correction=0, keepdim=True) + self.epsilon).sqrt()
        gated = x * torch.sigmoid(x * self.v[:, None, None])
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
