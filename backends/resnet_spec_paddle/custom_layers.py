"""Layers that Paddle lacks, or that replace one of its own because that computes something else than the operation.

Maps are (batch, channels, height, width).
"""

from __future__ import annotations

import math
from typing import Literal

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from resnet_spec.ops import AvgPool, DropBlock, MaxPool, StandardizedConv, drop_block_squares


class BatchNorm2D(nn.BatchNorm2D):
    """Batch normalisation that keeps the unbiased or the biased running variance.

    Replaces nn.BatchNorm2D, which keeps only the biased one, and whose errors do not name the layer. The predictor also
    reads a scale and a shift where there are none, and crashes; with ``for_predictor`` there always are.
    """

    for_predictor = False

    def __init__(
        self,
        path: str,
        channels: int,
        epsilon: float,
        decay: float,
        variance: Literal["unbiased", "biased"],
        affine: bool,
    ) -> None:
        # Paddle's momentum is the weight of the old value, which is the decay.
        attribute = None if affine else False
        super().__init__(channels, decay, epsilon, weight_attr=attribute, bias_attr=attribute)
        self.path = path
        self.variance: Literal["unbiased", "biased"] = variance

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self._use_global_stats:
            return self._predict(input) if self.for_predictor else super().forward(input)
        # The count is a tensor if to_static traces an unknown size. It cannot compile math.prod.
        count = input.shape[0] * input.shape[2] * input.shape[3]
        if isinstance(count, int) and count == 1:
            raise ValueError(
                f"{self.path} needs more than one value per channel in training, but its input has shape "
                f"{tuple(input.shape)}; use a larger batch or larger images"
            )
        # A copy, since the backward pass fails if the tensor passed here is assigned to after the call.
        variance = paddle.assign(self._variance)
        # Not super().forward, which warns at every step that it updates statistics.
        y = functional.batch_norm(
            input, self._mean, variance, self.weight, self.bias, True, self._momentum, self._epsilon
        )
        if self.variance == "unbiased":
            # n / (n - 1) is 1 + 1 / (n - 1). The divisor is a tensor, since to_static divides by a number in float32.
            added = variance - self._variance * self._momentum
            variance = variance + added / (paddle.ones([], added.dtype) * (count - 1))
        paddle.assign(variance, self._variance)
        return y

    def _predict(self, input: Tensor) -> Tensor:
        ones, zeros = (make(self._mean.shape, self._mean.dtype) for make in (paddle.ones, paddle.zeros))
        weight, bias = (ones, zeros) if self.weight is None else (self.weight, self.bias)
        return functional.batch_norm(
            input, self._mean, self._variance, weight, bias, False, self._momentum, self._epsilon
        )


MAX_EPSILON = 0.0010000000474974513  # 0.001 in float32
"""The largest epsilon that Paddle's layer normalisation takes."""


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float) -> Tensor:
    """Return layer normalisation over the last axis, with any epsilon.

    A larger epsilon than Paddle takes is scaled down together with x: by a power of two, so nothing is rounded.
    """
    excess = max(0, math.ceil(math.log2(epsilon / MAX_EPSILON) / 2))
    if excess:
        x, epsilon = x * 2.0**-excess, epsilon * 4.0**-excess
    return functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


class GroupNorm2D(nn.GroupNorm):
    """Group normalisation, computed as layer normalisation of each group.

    Replaces nn.GroupNorm, which computes the variance as E[x^2] - E[x]^2: that loses precision far from zero.
    """

    def forward(self, input: Tensor) -> Tensor:
        grouped = input.reshape([0, self._num_groups, -1])
        y = layer_norm(grouped, None, None, self._epsilon).reshape(input.shape)
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels).

    Replaces nn.LayerNorm, which takes epsilons of at most 0.001.
    """

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.weight, self.bias, self._epsilon)


class LayerNorm2D(LayerNorm):
    """Layer normalisation over the channels of (batch, channels, height, width).

    Replaces nn.LayerNorm, which normalises trailing axes only.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class LeakyReLU(nn.LeakyReLU):
    """x if x > 0, otherwise slope * x, with derivative ``slope`` at zero.

    Replaces nn.LeakyReLU, whose derivative at zero is 1. The predictor merges that into a convolution in a way that
    crashes, and reads beyond the slope of ``prelu``; ``for_predictor`` chooses operations that it computes.
    """

    for_predictor = False

    def forward(self, x: Tensor) -> Tensor:
        if self.for_predictor:
            return paddle.maximum(x, x * self._negative_slope)
        return functional.prelu(x, paddle.full([1], self._negative_slope, x.dtype))


class Hardsigmoid(nn.Hardsigmoid):
    """relu6(x + 3) / 6.

    Replaces nn.Hardsigmoid, which multiplies by 0.1666667.
    """

    def forward(self, x: Tensor) -> Tensor:
        # The divisor is a tensor, since to_static divides by a number in float32.
        return functional.relu6(x + 3) / paddle.full([], 6, x.dtype)


class MaxPool2D(nn.MaxPool2D):
    """The maximum over a square window.

    Replaces nn.MaxPool2D, which with ``ceil_mode`` keeps a last window that starts in the padding after the image.
    """

    def __init__(self, op: MaxPool) -> None:
        super().__init__(op.kernel, op.stride, op.padding, ceil_mode=op.ceil)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        return _drop_windows_in_padding(
            op, x, functional.max_pool2d(x, op.kernel, op.stride, op.padding, ceil_mode=op.ceil)
        )


class AvgPool2D(nn.AvgPool2D):
    """The mean over a square window.

    Replaces nn.AvgPool2D, whose gradient divides in float32, and which with ``ceil_mode`` keeps a last window that
    starts in the padding after the image. The predictor even divides by zero there, and counts what ``ceil`` adds like
    padding. In float64 and in these cases the mean is therefore a quotient of window sums.
    """

    def __init__(self, op: AvgPool) -> None:
        super().__init__(op.kernel, op.stride, op.padding, op.ceil, exclusive=not op.count_padding)
        self.op = op
        self.needs_sums = op.ceil and ((op.count_padding and op.padding > 0) or _has_windows_in_padding(op))

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        if x.dtype == paddle.float64 or self.needs_sums:
            pixels = paddle.ones([1, 1, *x.shape[2:]], x.dtype)
            return _window_sums(op, x, 0.0) / _window_sums(op, pixels, float(op.count_padding))
        exclusive = not op.count_padding or op.padding == 0
        return functional.avg_pool2d(x, op.kernel, op.stride, op.padding, op.ceil, exclusive)


def _window_sums(op: AvgPool, x: Tensor, padding: float) -> Tensor:
    """Return the sum over each window, by a convolution with ones.

    The padding has the value ``padding``; what ``ceil`` adds beyond it is zero.
    """
    padded = functional.pad(x, [op.padding] * 4, value=padding)
    extra = min(op.stride, op.kernel) - 1 if op.ceil else 0  # a window that starts in the image ends within a kernel
    padded = functional.pad(padded, [0, extra, 0, extra])
    ones = paddle.ones([x.shape[1], 1, op.kernel, op.kernel], x.dtype)
    sums = functional.conv2d(padded, ones, stride=op.stride, groups=x.shape[1])
    return _drop_windows_in_padding(op, x, sums)


def _has_windows_in_padding(op: MaxPool | AvgPool) -> bool:
    """Return whether Paddle may keep a last window that starts after the image."""
    return op.ceil and op.stride > op.kernel - op.padding


def _drop_windows_in_padding(op: MaxPool | AvgPool, x: Tensor, y: Tensor) -> Tensor:
    """Drop from the result y the windows that start after the image x: ``ceil`` does not count them."""
    if not _has_windows_in_padding(op):
        return y
    height, width = [(size + op.padding + op.stride - 1) // op.stride for size in x.shape[2:]]
    return y[:, :, :height, :width]


class GlobalAvgPool2D(nn.Layer):
    """The mean over height and width.

    Replaces nn.AdaptiveAvgPool2D, whose gradient divides in float32. The predictor takes no gradients, and runs it
    faster; ``for_predictor`` chooses it.
    """

    def __init__(self, keepdims: bool) -> None:
        super().__init__()
        self.keepdims = keepdims
        self.for_predictor = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.for_predictor:
            return x.mean([2, 3], keepdim=self.keepdims)
        y = functional.adaptive_avg_pool2d(x, 1)
        return y if self.keepdims else y.flatten(1)

    def extra_repr(self) -> str:
        return f"keepdims={self.keepdims}"


class GlobalMaxPool2D(nn.AdaptiveMaxPool2D):
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels).

    Replaces nn.AdaptiveMaxPool2D(1), which keeps both axes.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)


class StandardizedConv2D(nn.Conv2D):
    """A convolution with weight standardisation: each filter is shifted to mean 0 and scaled to variance 1 first."""

    def __init__(self, channels: int, op: StandardizedConv) -> None:
        sizes = (op.kernel, op.stride, op.padding, op.dilation, op.groups)
        super().__init__(channels, op.out, *sizes, bias_attr=None if op.bias else False)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        flat = self.weight.flatten(1)  # (out, in / groups * kernel^2)
        kernel = layer_norm(flat, None, None, op.epsilon).reshape(self.weight.shape)
        return functional.conv2d(x, kernel, self.bias, op.stride, op.padding, op.dilation, op.groups)


class ChannelConv1D(nn.Conv1D):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1)).squeeze(1)


class EvoNorm2DS0(nn.Layer):
    """EvoNorm-S0: x * sigmoid(v * x) over the standard deviation of x's group of channels, scaled and shifted."""

    def __init__(self, channels: int, groups: int, epsilon: float) -> None:
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon
        self.weight = self.create_parameter([channels])
        self.bias = self.create_parameter([channels])
        self.v = self.create_parameter([channels])

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape([0, self.groups, -1])
        centred = grouped - grouped.mean(2, keepdim=True)
        std = ((centred * centred).mean(2, keepdim=True) + self.epsilon).sqrt()
        gated = x * functional.sigmoid(x * self.v.reshape([-1, 1, 1]))
        y = (gated.reshape(grouped.shape) / std).reshape(x.shape)
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])

    def extra_repr(self) -> str:
        return f"groups={self.groups}, epsilon={self.epsilon:.6g}"


class FilterResponseNorm2D(nn.Layer):
    """Filter response normalisation: x over its root mean square in each channel, scaled, shifted, then max(y, tau)."""

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = self.create_parameter([channels])
        self.bias = self.create_parameter([channels])
        self.tau = self.create_parameter([channels])

    def forward(self, x: Tensor) -> Tensor:
        y = x / ((x * x).mean([2, 3], keepdim=True) + self.epsilon).sqrt()
        y = y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])
        return paddle.maximum(y, self.tau.reshape([-1, 1, 1]))

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon:.6g}"


class BlurPool2D(nn.Layer):
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, divided by 16."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, [1, 1, 1, 1], mode="reflect")
        row = paddle.to_tensor([0.25, 0.5, 0.25], x.dtype)
        kernel = paddle.outer(row, row).reshape([1, 1, 3, 3]).tile([x.shape[1], 1, 1, 1])
        return functional.conv2d(padded, kernel, stride=self.stride, groups=x.shape[1])

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class PadChannels2D(nn.Layer):
    """Adds channels of zeros before and after the input's own."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        # The channels are padded as the depth of a volume: the predictor's padding of four axes writes out of bounds.
        volume = functional.pad(x.unsqueeze(1), [0, 0, 0, 0, self.before, self.after], data_format="NCDHW")
        return volume.squeeze(1)

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


class SplitSum(nn.Layer):
    """The sum of equal parts of the channels: (batch, parts * channels, ...) -> (batch, channels, ...)."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        # Not reshape, after which the number of channels is unknown to a compiler that does not know the image's size.
        return paddle.stack(x.chunk(self.parts, axis=1)).sum(axis=0)

    def extra_repr(self) -> str:
        return f"parts={self.parts}"


class SplitSoftmax(nn.Layer):
    """The softmax over the parts of each group of channels, channel by channel."""

    def __init__(self, parts: int, groups: int) -> None:
        super().__init__()
        self.parts = parts
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
        split = x.reshape([0, self.groups, self.parts, -1]).transpose([0, 2, 1, 3])
        return functional.softmax(split, axis=1).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"parts={self.parts}, groups={self.groups}"


class DropPath2D(nn.Layer):
    """Stochastic depth: in training an image's map is zeroed with probability ``rate``, else divided by 1 - rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = paddle.bernoulli(paddle.full([x.shape[0], *[1] * (x.ndim - 1)], 1 - self.rate, x.dtype))
        return x * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:.6g}"


class DropBlock2D(nn.Layer):
    """DropBlock: in training squares of the map become zero, the same in all channels, and the rest is rescaled."""

    def __init__(self, op: DropBlock) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.op.rate == 0:
            return x
        batch, _, height, width = x.shape
        square_height, square_width, probability = drop_block_squares(
            self.op.rate, self.op.size, self.op.scale, height, width
        )
        centres = paddle.bernoulli(paddle.full([batch, 1, height, width], probability, x.dtype))
        # A pixel is dropped if a square that covers it has its centre there. A square of even size has one more row
        # above its centre than below, and one more column to the left.
        margins = [(square_width - 1) // 2, square_width // 2, (square_height - 1) // 2, square_height // 2]
        kept = 1 - functional.max_pool2d(functional.pad(centres, margins), (square_height, square_width), stride=1)
        return x * (kept * (batch * height * width / (kept.sum() + 1e-7)))

    def extra_repr(self) -> str:
        return f"rate={self.op.rate:.6g}, size={self.op.size}, scale={self.op.scale:.6g}"
