"""Layers that Paddle lacks, or that replace one of its own because that computes something else than the operation.

Maps are (batch, channels, height, width).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from resnet_spec import ops
from resnet_spec.ops import AvgPool, DropBlock, MaxPool, StandardizedConv, drop_block_squares
from resnet_spec_paddle.emitted_layers import LayerNorm, layer_norm


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


def map_size(x: Tensor) -> tuple[int | Tensor, int | Tensor]:
    """Return the height and the width of a map, as tensors where Paddle's compiler does not know them."""
    sizes = [x.shape[axis] if x.shape[axis] >= 0 else paddle.shape(x)[axis] for axis in (2, 3)]
    return sizes[0], sizes[1]


def pad_window(x: Tensor, window: ops.Window, value: float) -> Tensor:
    """Pad a map by what its windows need."""
    if window.padding is not None:
        assert not window.ceil
        down, right = window.padding
        return functional.pad(x, [right, right, down, down], value=value)
    height, width = map_size(x)
    if isinstance(height, int) and isinstance(width, int):
        (top, bottom), (left, right) = window.margins(height, width)
        return functional.pad(x, [left, right, top, bottom], value=value)
    rows, columns = (_same_margins(window, axis, size) for axis, size in enumerate((height, width)))
    return functional.pad(x, paddle.concat([columns, rows]), value=value)


def _same_margins(window: ops.Window, axis: int, size: Any) -> Tensor:
    """Return the margins of the padding ``same`` on an axis of a size that is a tensor, as a tensor of two."""
    stride = window.stride[axis]
    count = (size + stride - 1) // stride
    total = paddle.clip((count - 1) * stride + window.extent[axis] - size, min=0)
    before = total // 2
    return paddle.stack([before, total - before]).astype("int32")  # as functional.pad adds to them


class MaxPool2D(nn.Layer):
    """The maximum over a window.

    Replaces nn.MaxPool2D, which has no padding ``same``, and with ``ceil_mode`` keeps a last window that starts in the
    padding after the image.
    """

    def __init__(self, op: MaxPool) -> None:
        super().__init__()
        self.op = op
        self._window = ops.window_of(op)

    def forward(self, x: Tensor) -> Tensor:
        op, window, padding = self.op, self._window, ops.fixed_padding(self.op)
        if padding is None:
            return functional.max_pool2d(pad_window(x, window, -math.inf), window.kernel, window.stride)
        y = functional.max_pool2d(x, op.kernel, op.stride, padding, ceil_mode=op.ceil)
        return _drop_windows_in_padding(window, x, y)

    def extra_repr(self) -> str:
        return repr(self.op)


class AvgPool2D(nn.Layer):
    """The mean over a window.

    Replaces nn.AvgPool2D, which has no padding ``same``, whose gradient divides in float32, and which with
    ``ceil_mode`` keeps a last window that starts in the padding after the image. The predictor even divides by zero
    there, and counts what ``ceil`` adds like padding. In float64 and in these cases the mean is therefore a quotient of
    window sums.
    """

    def __init__(self, op: AvgPool) -> None:
        super().__init__()
        self.op = op
        self._window = ops.window_of(op)
        counts_padding = op.count_padding and self._window.padding != (0, 0)
        is_uneven = op.ceil and (counts_padding or _has_windows_in_padding(self._window))
        self._needs_sums = is_uneven or op.padding == "same"

    def forward(self, x: Tensor) -> Tensor:
        op, window, padding = self.op, self._window, ops.fixed_padding(self.op)
        if x.dtype == paddle.float64 or self._needs_sums or padding is None:
            pixels = paddle.ones([1, 1, *x.shape[2:]], x.dtype)
            return _window_sums(window, x, 0.0) / _window_sums(window, pixels, float(op.count_padding))
        exclusive = not op.count_padding or window.padding == (0, 0)
        return functional.avg_pool2d(x, op.kernel, op.stride, padding, op.ceil, exclusive)

    def extra_repr(self) -> str:
        return repr(self.op)


def _window_sums(window: ops.Window, x: Tensor, padding: float) -> Tensor:
    """Return the sum over each window, by a convolution with ones.

    The padding has the value ``padding``; what ``ceil`` adds beyond it is zero.
    """
    padded = pad_window(x, replace(window, ceil=False), padding)
    if window.ceil:  # a window that starts in the image ends within a kernel
        down, right = (min(window.stride[axis], window.kernel[axis]) - 1 for axis in (0, 1))
        padded = functional.pad(padded, [0, right, 0, down])
    ones = paddle.ones([x.shape[1], 1, *window.kernel], x.dtype)
    sums = functional.conv2d(padded, ones, stride=window.stride, groups=x.shape[1])
    return _drop_windows_in_padding(window, x, sums)


def _has_windows_in_padding(window: ops.Window) -> bool:
    """Return whether Paddle may keep a last window that starts after the image."""
    padding = window.padding
    if not window.ceil or padding is None:
        return False
    # Paddle's compiler does not support zip with strict=True.
    return any(window.stride[axis] > window.kernel[axis] - padding[axis] for axis in (0, 1))


def _drop_windows_in_padding(window: ops.Window, x: Tensor, y: Tensor) -> Tensor:
    """Drop from the result y the windows that start after the image x: ``ceil`` does not count them."""
    if window.padding is None or not _has_windows_in_padding(window):
        return y
    (down, right), (rows, columns) = window.stride, window.padding
    height, width = (x.shape[2] + rows + down - 1) // down, (x.shape[3] + columns + right - 1) // right
    return y[:, :, :height, :width]


class AdaptiveAvgPool2D(nn.Layer):
    """The mean over windows that divide a map into a fixed number of rows and columns.

    Replaces nn.AdaptiveAvgPool2D, whose gradient divides in float32: here, a product with the shares of the pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        height, width = map_size(x)
        rows, columns = _window_shares(height, self.size[0], x.dtype), _window_shares(width, self.size[1], x.dtype)
        return _combine_pixels(x, rows, columns)

    def extra_repr(self) -> str:
        return f"size={self.size}"


def _combine_pixels(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return sums of a map's pixels by their shares in the rows and columns of the result.

    The predictor computes the product of a map and a matrix wrongly, but not that of two matrices.
    """
    for shares in (columns, rows):
        batch, channels, height, _ = (paddle.shape(x)[axis] for axis in range(4))
        y = paddle.matmul(x.flatten(0, 2), shares, transpose_y=True)
        x = y.reshape([batch, channels, height, paddle.shape(shares)[0]]).transpose([0, 1, 3, 2])
    return x


def _window_shares(size: int | Tensor, count: int, dtype: paddle.dtype) -> Tensor:
    """Return each pixel's share in each of ``count`` windows along an axis: (count, size).

    The size is a tensor where Paddle's compiler does not know it.
    """
    windows, pixels = paddle.arange(count, dtype="int64").unsqueeze(-1), paddle.arange(size, dtype="int64")
    starts, ends = windows * size // count, ((windows + 1) * size + count - 1) // count
    inside = paddle.logical_and(pixels >= starts, pixels < ends)
    return inside.astype(dtype) / (ends - starts).astype(dtype)


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


class SameConv2D(nn.Conv2D):
    """A convolution with the padding ``same``.

    Replaces nn.Conv2D, whose padding "SAME" resets the dilation to 1.
    """

    def __init__(self, channels: int, op: ops.Conv) -> None:
        sizes = (op.kernel, op.stride, 0, op.dilation, op.groups)
        super().__init__(channels, op.out, *sizes, bias_attr=None if op.bias else False)
        self.op = op
        self._window = ops.window_of(op)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_window(x, self._window, 0.0))

    def extra_repr(self) -> str:
        return repr(self.op)


class StandardizedConv2D(nn.Conv2D):
    """A convolution with weight standardisation: each filter is shifted to mean 0 and scaled to variance 1 first.

    If it is scaled, each filter is then multiplied by a learned gain and a constant.
    """

    def __init__(self, channels: int, op: StandardizedConv, input_shape: ops.Shape) -> None:
        sizes = (op.kernel, op.stride, ops.fixed_padding(op) or 0, op.dilation, op.groups)
        super().__init__(channels, op.out, *sizes, bias_attr=None if op.bias else False)
        self.op = op
        self.gain = self.create_parameter([op.out, 1, 1, 1]) if op.scaled else None
        self._scale = op.fan_in_factor(input_shape)
        self._window = ops.window_of(op)

    def forward(self, x: Tensor) -> Tensor:
        op, padding = self.op, ops.fixed_padding(self.op)
        flat = self.weight.flatten(1)  # (out, in / groups * kernel)
        kernel = layer_norm(flat, None, None, op.epsilon).reshape(self.weight.shape)
        if self.gain is not None:  # the factor is a tensor, since Paddle multiplies by a number in float32
            kernel = kernel * (self.gain * paddle.full([], self._scale, x.dtype))
        if padding is None:
            x, padding = pad_window(x, self._window, 0.0), 0
        bias = None if self.bias is None else self.operand(self.bias)
        return functional.conv2d(x, self.operand(kernel), bias, op.stride, padding, op.dilation, op.groups)

    def operand(self, weight: Tensor) -> Tensor:
        """Return a kernel or a bias as it is multiplied or added: here, unchanged."""
        return weight


class ChannelConv1D(nn.Conv1D):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1)).squeeze(1)


def affine_attributes(op: ops.GroupNorm | ops.LayerNorm) -> dict[str, Any]:
    """Return the arguments of a norm that say whether it has a scale and a shift."""
    return {"weight_attr": None if op.affine else False, "bias_attr": None if op.affine and op.bias else False}


class RMSNorm(nn.Layer):
    """Normalisation by the root mean square of the channels of (batch, channels, ...), or by their deviation."""

    def __init__(self, channels: int, epsilon: float, variance: bool) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.variance = variance
        self.weight = self.create_parameter([channels])

    def forward(self, x: Tensor) -> Tensor:
        if self.variance:
            centred = x - x.mean(1, keepdim=True)
            square = (centred * centred).sum(1, keepdim=True) / (x.shape[1] - 1)
        else:
            square = (x * x).mean(1, keepdim=True)
        y = x / (square + self.epsilon).sqrt()
        return y * self.weight.reshape([-1, *[1] * (x.ndim - 2)])

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon:.6g}"


class GlobalResponseNorm2D(nn.Layer):
    """Global response normalisation: x + weight * x * n + bias, with n a channel's norm over the mean of all norms."""

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = self.create_parameter([channels])
        self.bias = self.create_parameter([channels])

    def forward(self, x: Tensor) -> Tensor:
        # A channel of zeros has the norm zero, whose derivative is infinite: it is kept out of the root.
        squares = (x * x).sum([2, 3], keepdim=True)
        is_zero = (squares == 0).astype(squares.dtype)
        norm = (squares + is_zero).sqrt() * (1 - is_zero)
        ratio = norm / (norm.mean(1, keepdim=True) + self.epsilon)
        return x + (x * ratio * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1]))

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon:.6g}"


class PReLU(nn.Layer):
    """x where it is positive, slope * x elsewhere, with one learned slope per channel or for all.

    Replaces nn.PReLU, whose slope is called _weight.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = self.create_parameter([count])

    def forward(self, x: Tensor) -> Tensor:
        return paddle.where(x > 0, x, x * self.weight.reshape([-1, *[1] * (x.ndim - 2)]))


class SpaceToDepth(nn.Layer):
    """Tiles of pixels as channels: (batch, c, h * size, w * size) -> (batch, size * size * c, h, w)."""

    def __init__(self, op: ops.SpaceToDepth) -> None:
        super().__init__()
        self.op = op
        # The axes are batch, channel, tile's row, row in the tile, tile's column, column in the tile.
        axes = [{"channel": 1, "row": 3, "column": 5}[name] for name in op.order.split("_")]
        self._axes = [0, *axes, 2, 4]

    def forward(self, x: Tensor) -> Tensor:
        size = self.op.size
        height, width = x.shape[2] // size, x.shape[3] // size
        tiles = x.reshape([0, x.shape[1], height, size, width, size])
        return tiles.transpose(self._axes).reshape([0, x.shape[1] * size * size, height, width])

    def extra_repr(self) -> str:
        return f"size={self.op.size}, order={self.op.order}"


class Upsample(nn.Layer):
    """A larger map: pixels repeated, or interpolated between their centres.

    Replaces nn.Upsample, which interpolates with weights in float32: here, products with the shares of the pixels.
    """

    def __init__(self, factor: int, mode: str) -> None:
        super().__init__()
        self.factor = factor
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "nearest":
            return x.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        height, width = map_size(x)
        rows, columns = (_interpolation_shares(size, self.factor, x.dtype) for size in (height, width))
        return _combine_pixels(x, rows, columns)

    def extra_repr(self) -> str:
        return f"factor={self.factor}, mode={self.mode}"


def _interpolation_shares(size: int | Tensor, factor: int, dtype: paddle.dtype) -> Tensor:
    """Return each pixel's share in each interpolated pixel along an axis: (size * factor, size).

    The size is a tensor where Paddle's compiler does not know it.
    """
    pixels = paddle.arange(size, dtype="int64").astype(dtype)
    centres = (paddle.arange(size * factor, dtype="int64").astype(dtype) + 0.5) / factor - 0.5
    inside = paddle.minimum(functional.relu(centres), pixels.max())
    return functional.relu(1 - (inside.unsqueeze(-1) - pixels).abs())


class Scale(nn.Layer):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * paddle.full([], self.factor, x.dtype)  # Paddle multiplies by a number in float32

    def extra_repr(self) -> str:
        return f"factor={self.factor:.6g}"


class OwnScale(nn.Layer):
    """Multiplication by a weight of the layer that holds this one, with one number per channel or for all."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * weight.reshape([-1, *[1] * (x.ndim - 2)])


class OwnShift(nn.Layer):
    """Addition of a weight of the layer that holds this one, with one number per channel or for all."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x + weight.reshape([-1, *[1] * (x.ndim - 2)])


class EvoNorm2DS0(nn.Layer):
    """EvoNorm-S0: x * sigmoid(v * x) over the standard deviation of x's group of channels, scaled and shifted."""

    def __init__(self, channels: int, groups: int, epsilon: float, act: bool) -> None:
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon
        self.weight = self.create_parameter([channels])
        self.bias = self.create_parameter([channels])
        self.act = act
        if act:
            self.v = self.create_parameter([channels])

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape([0, self.groups, -1])
        centred = grouped - grouped.mean(2, keepdim=True)
        std = ((centred * centred).mean(2, keepdim=True) + self.epsilon).sqrt()
        gated = x * functional.sigmoid(x * self.v.reshape([-1, 1, 1])) if self.act else x
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
