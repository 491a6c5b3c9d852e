"""An operation to a native layer: Paddle's own wherever it computes exactly what the operation says."""

from __future__ import annotations

from typing import Literal, assert_never

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

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


def layer(leaf: Leaf) -> nn.Layer:
    """The layer of a leaf, in Paddle's default type. Under LazyGuard its weights have no memory: none is drawn only to be replaced."""
    channels = leaf.given[0]
    match leaf.op:
        case Conv(out, kernel, stride, padding, dilation, groups, bias):
            bias_attr = None if bias else False
            return nn.Conv2D(channels, out, kernel, stride, padding, dilation, groups, bias_attr=bias_attr)
        case Linear(out, bias):
            return nn.Linear(channels, out, bias_attr=None if bias else False)
        case BatchNorm(epsilon, decay, variance, affine):
            return BatchNorm2D(leaf.path, channels, epsilon, decay, variance, affine)
        case GroupNorm(groups, epsilon):
            return GroupNorm2D(groups, channels, epsilon)
        case LayerNorm(epsilon):
            kind = LayerNorm2D if len(leaf.given) == 3 else nn.LayerNorm
            return kind(channels, epsilon)
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
            return Hardsigmoid()
        case HardSwish():
            return nn.Hardswish()
        case MaxPool(kernel, stride, padding, ceil) as op:
            return MaxPool2D(op) if ceil else nn.MaxPool2D(kernel, stride, padding)
        case AvgPool() as op:
            return AvgPool2D(op)
        case GlobalAvgPool(keepdims):
            return GlobalAvgPool2D(keepdims)
        case GlobalMaxPool(keepdims):
            return nn.AdaptiveMaxPool2D(1) if keepdims else GlobalMaxPool2D(1)
        case ZeroPad(top, bottom, left, right):
            return nn.ZeroPad2D([left, right, top, bottom])
        case Flatten():
            return nn.Flatten()
        case Dropout(rate):
            return nn.Dropout(rate)
        case Identity():
            return nn.Identity()
        case _:
            assert_never(leaf.op)


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
        self.variance = variance

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
    """The mean over height and width: the gradient of Paddle's own adaptive pooling divides in float32."""

    def __init__(self, keepdims: bool) -> None:
        super().__init__()
        self.keepdims = keepdims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean([2, 3], keepdim=self.keepdims)

    def extra_repr(self) -> str:
        return f"keepdims={self.keepdims}"


class GlobalMaxPool2D(nn.AdaptiveMaxPool2D):
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)
