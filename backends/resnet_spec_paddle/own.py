"""Layers that Paddle lacks, or that compute something else there than the operation says."""

from __future__ import annotations

from typing import Literal

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from resnet_spec.ops import AvgPool, DropBlock, MaxPool, StandardizedConv, drop_block_squares


class BatchNorm2D(nn.BatchNorm2D):
    """Paddle's own, which keeps the biased variance: the unbiased one is worked out from it. Errors say which layer."""

    def __init__(
        self,
        path: str,
        channels: int,
        epsilon: float,
        decay: float,
        variance: Literal["unbiased", "biased"],
        affine: bool,
    ) -> None:
        # momentum is the weight of the old value here: the decay
        learnt = None if affine else False
        super().__init__(channels, decay, epsilon, weight_attr=learnt, bias_attr=learnt)
        self.path = path
        self.variance: Literal["unbiased", "biased"] = variance

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self._use_global_stats:
            return super().forward(input)
        # A tensor, if to_static traces a size that is not known. Not math.prod, which it can't compile.
        count = input.shape[0] * input.shape[2] * input.shape[3]
        if isinstance(count, int) and count == 1:
            raise ValueError(
                f"{self.path} is given one value a channel, {tuple(input.shape)}, which has no variance to train with; "
                "it needs a larger batch or larger images"
            )
        # On a copy, since the gradient refuses a variance that was assigned to after the call.
        variance = paddle.assign(self._variance)
        # Not super().forward, which warns at every step that it tracks statistics.
        y = functional.batch_norm(
            input, self._mean, variance, self.weight, self.bias, True, self._momentum, self._epsilon
        )
        if self.variance == "unbiased":
            # n / (n - 1) is 1 + 1 / (n - 1). By a tensor: to_static divides by a number in float32.
            added = variance - self._variance * self._momentum
            variance = variance + added / (paddle.ones([], added.dtype) * (count - 1))
        paddle.assign(variance, self._variance)
        return y


class GroupNorm2D(nn.GroupNorm):
    """By layer normalisation of each group: Paddle's own takes E[x^2] - E[x]^2 for the variance, which cancels far from zero."""

    def forward(self, input: Tensor) -> Tensor:
        grouped = input.reshape([0, self._num_groups, -1])
        y = functional.layer_norm(grouped, grouped.shape[2:], epsilon=self._epsilon).reshape(input.shape)
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])


class LayerNorm2D(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels, height, width)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class Hardsigmoid(nn.Hardsigmoid):
    """relu6(x + 3) / 6: Paddle's own multiplies by 0.1666667."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu6(x + 3) / paddle.full([], 6, x.dtype)  # to_static divides by a number in float32


class MaxPool2D(nn.MaxPool2D):
    """Paddle's own, less a last window that starts in the padding."""

    def __init__(self, op: MaxPool) -> None:
        super().__init__(op.kernel, op.stride, op.padding, ceil_mode=op.ceil)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        return _inside(op, x, functional.max_pool2d(x, op.kernel, op.stride, op.padding, ceil_mode=op.ceil))


class AvgPool2D(nn.AvgPool2D):
    """Paddle's own, less a last window that starts in the padding. Its gradient divides in float32, so float64 takes sums."""

    def __init__(self, op: AvgPool) -> None:
        super().__init__(op.kernel, op.stride, op.padding, op.ceil, exclusive=not op.count_padding)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        if x.dtype == paddle.float64:
            pixels = paddle.ones([1, 1, *x.shape[2:]], x.dtype)
            return _window_sums(op, x, 0.0) / _window_sums(op, pixels, float(op.count_padding))
        exclusive = not op.count_padding
        return _inside(op, x, functional.avg_pool2d(x, op.kernel, op.stride, op.padding, op.ceil, exclusive))


def _window_sums(op: AvgPool, x: Tensor, padding: float) -> Tensor:
    """The sum over each window, by a convolution with ones. What ceil adds beyond the padding is zero."""
    framed = functional.pad(x, [op.padding] * 4, value=padding)
    beyond = op.stride - 1 if op.ceil else 0
    ones = paddle.ones([x.shape[1], 1, op.kernel, op.kernel], x.dtype)
    sums = functional.conv2d(functional.pad(framed, [0, beyond, 0, beyond]), ones, stride=op.stride, groups=x.shape[1])
    return _inside(op, x, sums)


def _inside(op: MaxPool | AvgPool, x: Tensor, y: Tensor) -> Tensor:
    """The windows that start in the image x, or in the padding before it: ceil keeps no others."""
    if not op.ceil or op.stride <= op.kernel - op.padding:  # there are no others
        return y
    height, width = [(size + op.padding + op.stride - 1) // op.stride for size in x.shape[2:]]
    return y[:, :, :height, :width]


class GlobalAvgPool2D(nn.Layer):
    """The mean over height and width: the gradient of Paddle's own adaptive pooling divides in float32.

    Where there is no gradient it may be ``by_pooling``, which oneDNN is better at.
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
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)


class StandardizedConv2D(nn.Conv2D):
    """A convolution whose kernels are standardised first: each less its mean, over its standard deviation."""

    def __init__(self, channels: int, op: StandardizedConv) -> None:
        sizes = (op.kernel, op.stride, op.padding, op.dilation, op.groups)
        super().__init__(channels, op.out, *sizes, bias_attr=None if op.bias else False)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        flat = self.weight.flatten(1)  # (out, in / groups * kernel^2)
        kernel = functional.layer_norm(flat, flat.shape[1:], epsilon=op.epsilon).reshape(self.weight.shape)
        return functional.conv2d(x, kernel, self.bias, op.stride, op.padding, op.dilation, op.groups)


class ChannelConv1D(nn.Conv1D):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1)).squeeze(1)


class EvoNorm2DS0(nn.Layer):
    """x * sigmoid(v * x) over the standard deviation of a group of channels, then a scale and a shift."""

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
        spread = ((centred * centred).mean(2, keepdim=True) + self.epsilon).sqrt()
        gated = x * functional.sigmoid(x * self.v.reshape([-1, 1, 1]))
        y = (gated.reshape(grouped.shape) / spread).reshape(x.shape)
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])

    def extra_repr(self) -> str:
        return f"groups={self.groups}, epsilon={self.epsilon:.6g}"


class FilterResponseNorm2D(nn.Layer):
    """x over the root of its mean square in height and width, a scale, a shift, and a learnt threshold."""

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
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, over 16."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        around = functional.pad(x, [1, 1, 1, 1], mode="reflect")
        line = paddle.to_tensor([0.25, 0.5, 0.25], x.dtype)
        kernel = paddle.outer(line, line).reshape([1, 1, 3, 3]).tile([x.shape[1], 1, 1, 1])
        return functional.conv2d(around, kernel, stride=self.stride, groups=x.shape[1])

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class PadChannels2D(nn.Layer):
    """Channels of zeros before and after the image's own."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, [0, 0, self.before, self.after, 0, 0, 0, 0], value=0.0)

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


class SplitSum(nn.Layer):
    """The channels in equal parts, added up: (batch, parts * channels, ...) -> (batch, channels, ...)."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape([0, self.parts, -1, *x.shape[2:]]).sum(1)

    def extra_repr(self) -> str:
        return f"parts={self.parts}"


class SplitSoftmax(nn.Layer):
    """For each channel, the softmax over the parts that it comes in."""

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
    """In training an image's whole map becomes zero with probability rate; one that stays is divided by 1 - rate."""

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
    """In training squares of the map become zero, in all channels alike, and what stays is scaled to keep the mean."""

    def __init__(self, op: DropBlock) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.op.rate == 0:
            return x
        batch, _, height, width = x.shape
        tall, wide, probability = drop_block_squares(self.op.rate, self.op.size, self.op.scale, height, width)
        middles = paddle.bernoulli(paddle.full([batch, 1, height, width], probability, x.dtype))
        # A square reaches further up and left of its middle than down and right, where its size is even.
        around = functional.pad(middles, [(wide - 1) // 2, wide // 2, (tall - 1) // 2, tall // 2])
        kept = 1 - functional.max_pool2d(around, (tall, wide), stride=1)
        return x * (kept * (batch * height * width / (kept.sum() + 1e-7)))

    def extra_repr(self) -> str:
        return f"rate={self.op.rate:.6g}, size={self.op.size}, scale={self.op.scale:.6g}"
