"""Layers that Paddle lacks, or that replace one of its own because that computes something else than the operation.

Maps are (batch, channels, height, width).
"""

from __future__ import annotations

from typing import Literal

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from resnet_spec.ops import AvgPool, DropBlock, MaxPool, StandardizedConv, drop_block_squares


class BatchNorm2D(nn.BatchNorm2D):
    """Batch normalisation that keeps the unbiased or the biased running variance.

    Replaces nn.BatchNorm2D, which keeps only the biased one, and whose errors do not name the layer.
    """

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
            return super().forward(input)
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


class GroupNorm2D(nn.GroupNorm):
    """Group normalisation, computed as layer normalisation of each group.

    Replaces nn.GroupNorm, which computes the variance as E[x^2] - E[x]^2: that loses precision far from zero.
    """

    def forward(self, input: Tensor) -> Tensor:
        grouped = input.reshape([0, self._num_groups, -1])
        y = standardize(grouped, self._epsilon).reshape(input.shape)
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])


class LayerNorm2D(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels, height, width), or of (batch, channels).

    Replaces nn.LayerNorm, which normalises trailing axes only, with an epsilon of at most 0.001.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim == 2:
            return self.normalise(input)
        return self.normalise(input.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        if self._epsilon <= MAX_EPSILON:
            return super().forward(x)
        assert self.weight is not None
        assert self.bias is not None
        return standardize(x, self._epsilon) * self.weight + self.bias


MAX_EPSILON = 0.001
"""The largest epsilon that Paddle's layer_norm takes."""


def standardize(x: Tensor, epsilon: float) -> Tensor:
    """Shift and scale the last axis to mean 0 and variance 1.

    Replaces functional.layer_norm where epsilon is too large for that.
    """
    if epsilon <= MAX_EPSILON:
        return functional.layer_norm(x, x.shape[-1:], epsilon=epsilon)
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred * centred).mean(-1, keepdim=True) + epsilon).sqrt()


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

    Replaces nn.AvgPool2D, which with ``ceil_mode`` keeps a last window that starts in the padding after the image, and
    whose gradient divides in float32. In float64 the mean is therefore a quotient of window sums. So it is if
    ``by_sums`` is set, because oneDNN raises an error or counts wrong pixels in a window that ``ceil`` adds.
    """

    def __init__(self, op: AvgPool) -> None:
        super().__init__(op.kernel, op.stride, op.padding, op.ceil, exclusive=not op.count_padding)
        self.op = op
        self.by_sums = False

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        if self.by_sums or x.dtype == paddle.float64:
            pixels = paddle.ones([1, 1, x.shape[2], x.shape[3]], x.dtype)
            return _window_sums(op, x, 0.0) / _window_sums(op, pixels, float(op.count_padding))
        exclusive = not op.count_padding
        return _drop_windows_in_padding(
            op, x, functional.avg_pool2d(x, op.kernel, op.stride, op.padding, op.ceil, exclusive)
        )


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


def _drop_windows_in_padding(op: MaxPool | AvgPool, x: Tensor, y: Tensor) -> Tensor:
    """Drop from the result y the windows that start after the image x: ``ceil`` does not count them."""
    if not op.ceil or op.stride <= op.kernel - op.padding:  # no window starts there
        return y
    height, width = [(size + op.padding + op.stride - 1) // op.stride for size in x.shape[2:]]
    return y[:, :, :height, :width]


class GlobalAvgPool2D(nn.Layer):
    """The mean over height and width.

    Replaces nn.AdaptiveAvgPool2D, whose gradient divides in float32. Without gradients it can be used all the same, if
    ``by_pooling`` is set: oneDNN runs it faster.
    """

    def __init__(self, keepdims: bool) -> None:
        super().__init__()
        self.keepdims = keepdims
        self.by_pooling = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_pooling:
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
        kernel = standardize(flat, op.epsilon).reshape(self.weight.shape)
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
        return functional.pad(x, [0, 0, self.before, self.after, 0, 0, 0, 0], value=0.0)

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


class SplitSum(nn.Layer):
    """The sum of equal parts of the channels: (batch, parts * channels, ...) -> (batch, channels, ...)."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape([0, self.parts, -1, *x.shape[2:]]).sum(1)

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
