"""Layers that Paddle lacks, or has with another meaning, from which ``resnet-spec emit`` copies those it needs.

Maps are (batch, channels, height, width).
"""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn
from paddle.nn import functional


class BatchNorm2D(nn.BatchNorm2D):
    """Batch normalisation whose running variance is unbiased, as in PyTorch; nn.BatchNorm2D keeps the biased one."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        variance = paddle.assign(self._variance)
        y = functional.batch_norm(
            input, self._mean, variance, self.weight, self.bias, True, self._momentum, self._epsilon
        )
        count = input.size // input.shape[1]
        old = self._variance * self._momentum
        paddle.assign(old + (variance - old) * (count / (count - 1)), self._variance)
        return y


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float) -> Tensor:
    """Return layer normalisation over the last axis; an epsilon above 0.001, which Paddle refuses, is scaled with x."""
    excess = max(0, math.ceil(math.log2(epsilon / 0.001) / 2))
    if excess:
        x, epsilon = x * 2.0**-excess, epsilon * 4.0**-excess
    if weight is not None and bias is None:  # the predictor computes a scale alone wrongly
        bias = paddle.zeros(weight.shape, weight.dtype)
    return functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


class GroupNorm2D(nn.GroupNorm):
    """Group normalisation; the variance of nn.GroupNorm is E[x^2] - E[x]^2, which loses precision far from zero."""

    def forward(self, input: Tensor) -> Tensor:
        grouped = input.reshape([0, self._num_groups, -1])
        y = layer_norm(grouped, None, None, self._epsilon).reshape(input.shape)
        if self.weight is not None:
            y = y * self.weight.reshape([-1, 1, 1])
        return y if self.bias is None else y + self.bias.reshape([-1, 1, 1])


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels; nn.LayerNorm refuses an epsilon above 0.001."""

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.weight, self.bias, self._epsilon)


class LayerNorm2D(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel; nn.LayerNorm normalises the last axes."""

    def forward(self, input: Tensor) -> Tensor:
        y = layer_norm(input.transpose([0, 2, 3, 1]), self.weight, self.bias, self._epsilon)
        return y.transpose([0, 3, 1, 2])


class LeakyReLU(nn.Layer):
    """x if x > 0, otherwise slope * x; the derivative of nn.LeakyReLU at zero is 1."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return functional.prelu(x, paddle.full([1], self.slope, x.dtype))


class HardSigmoid(nn.Layer):
    """relu6(x + 3) / 6; nn.Hardsigmoid multiplies by 0.1666667."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu6(x + 3) / 6


class PReLU(nn.Layer):
    """x if x > 0, otherwise weight * x; the weight of nn.PReLU is called _weight."""

    def __init__(self, count: int, start: float = 0.25) -> None:
        super().__init__()
        self.weight = self.create_parameter([count], default_initializer=nn.initializer.Constant(start))

    def forward(self, x: Tensor) -> Tensor:
        return paddle.where(x > 0, x, x * self.weight.reshape([-1, *[1] * (x.ndim - 2)]))


class SquaredReLU(nn.Layer):
    """max(x, 0) ^ 2."""

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(x)
        return y * y


def affine(layer: nn.Layer, channels: int, scale: float = 1.0) -> None:
    """Give a norm a scale and a shift for each channel."""
    layer.weight = layer.create_parameter([channels], default_initializer=nn.initializer.Constant(scale))
    layer.bias = layer.create_parameter([channels], default_initializer=nn.initializer.Constant(0.0))


class RMSNorm(nn.Layer):
    """x over the root mean square of the channels, or over their standard deviation, times a scale per channel."""

    def __init__(self, channels: int, epsilon: float, variance: bool = False) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.variance = variance
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x: Tensor) -> Tensor:
        square = x.var(1, keepdim=True) if self.variance else (x * x).mean(1, keepdim=True)
        return x / (square + self.epsilon).sqrt() * self.weight.reshape([-1, *[1] * (x.ndim - 2)])


class GlobalResponseNorm2D(nn.Layer):
    """x + weight * x * n + bias, where n is the norm of a channel over the mean norm (Woo et al. 2023)."""

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        affine(self, channels, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        # A channel of zeros has the norm zero, whose derivative is infinite: it is kept out of the root.
        squares = (x * x).sum([2, 3], keepdim=True)
        is_zero = (squares == 0).astype(squares.dtype)
        norm = (squares + is_zero).sqrt() * (1 - is_zero)
        ratio = norm / (norm.mean(1, keepdim=True) + self.epsilon)
        return x + (x * ratio * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1]))


class EvoNorm2DS0(nn.Layer):
    """x * sigmoid(v * x) over the standard deviation of a group, scaled and shifted (Liu et al. 2020)."""

    def __init__(self, channels: int, groups: int, epsilon: float, act: bool = True) -> None:
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon
        self.act = act
        affine(self, channels)
        if act:
            self.v = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape([0, self.groups, -1])
        centred = grouped - grouped.mean(2, keepdim=True)
        std = ((centred * centred).mean(2, keepdim=True) + self.epsilon).sqrt()
        gated = x * functional.sigmoid(x * self.v.reshape([-1, 1, 1])) if self.act else x
        y = (gated.reshape(grouped.shape) / std).reshape(x.shape)
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])


class FilterResponseNorm2D(nn.Layer):
    """x over its root mean square in each channel, scaled, shifted, then max(y, tau) (Singh and Krishnan 2019)."""

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        affine(self, channels)
        self.tau = self.create_parameter([channels], default_initializer=nn.initializer.Constant(0.0))

    def forward(self, x: Tensor) -> Tensor:
        y = x / ((x * x).mean([2, 3], keepdim=True) + self.epsilon).sqrt()
        y = y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])
        return paddle.maximum(y, self.tau.reshape([-1, 1, 1]))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return a value for the height and one for the width."""
    return value if isinstance(value, tuple) else (value, value)


def pad_same(x: Tensor, extent: tuple[int, int], stride: tuple[int, int], value: float = 0.0) -> Tensor:
    """Pad a map as TensorFlow does, so that size / stride windows fit: the odd pixel at the bottom and on the right."""
    margins: list[int] = []
    for axis in (1, 0):  # functional.pad takes the last axis first
        size = x.shape[2 + axis]
        missing = max(0, ((size - 1) // stride[axis]) * stride[axis] + extent[axis] - size)
        margins += [missing // 2, missing - missing // 2]
    return functional.pad(x, margins, value=value)


class SameConv2D(nn.Conv2D):
    """A convolution with TensorFlow's padding SAME; that of nn.Conv2D resets the dilation to 1."""

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (down, right) = self._kernel_size, self._dilation
        extent = (down * (height - 1) + 1, right * (width - 1) + 1)
        return super().forward(pad_same(x, extent, tuple(self._stride)))


class StandardizedConv2D(nn.Conv2D):
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
        bias_attr: bool | None = None,
        epsilon: float = 1e-6,
        scaled: bool = False,
        factor: float = 1.0,
        same: bool = False,
    ) -> None:
        super().__init__(in_channels, channels, kernel_size, stride, padding, dilation, groups, bias_attr=bias_attr)
        self.sizes = (stride, padding, dilation, groups)
        (height, width), (down, right) = pair(kernel_size), pair(dilation)
        self.extent = (down * (height - 1) + 1, right * (width - 1) + 1)
        self.epsilon = epsilon
        self.same = same
        self.factor = factor / math.sqrt(math.prod(self.weight.shape[1:]))
        self.gain = None
        if scaled:
            self.gain = self.create_parameter([channels, 1, 1, 1], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x: Tensor) -> Tensor:
        kernel = layer_norm(self.weight.flatten(1), None, None, self.epsilon).reshape(self.weight.shape)
        if self.gain is not None:  # the factor is a tensor, since Paddle multiplies by a number in float32
            kernel = kernel * (self.gain * paddle.full([], self.factor, x.dtype))
        if self.same:
            x = pad_same(x, self.extent, pair(self.sizes[0]))
        return functional.conv2d(x, kernel, self.bias, *self.sizes)


class Linear2D(nn.Linear):
    """A fully connected layer over the channels of each pixel; nn.Linear reads the last axis."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class ChannelConv1D(nn.Conv1D):
    """A convolution along the channels of (batch, channels)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__(1, 1, kernel_size, padding=kernel_size // 2, bias_attr=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1)).squeeze(1)


class Pool2D(nn.Layer):
    """A pool with TensorFlow's padding SAME, or with a last window that reaches past the edge.

    Such a window is left out if it starts in the padding; Paddle keeps it.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        ceil: bool = False,
        same: bool = False,
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = pair(kernel_size), pair(stride), pair(padding)
        self.ceil = ceil
        self.same = same
        self.count_padding = count_padding

    def pad(self, x: Tensor, value: float) -> Tensor:
        if self.same:
            return pad_same(x, self.kernel, self.stride, value)
        (rows, columns), beyond = self.padding, [0, 0]
        if self.ceil:
            beyond = [min(stride, kernel) - 1 for stride, kernel in zip(self.stride, self.kernel, strict=True)]
        padded = functional.pad(x, [columns, columns, rows, rows], value=value)
        return functional.pad(padded, [0, beyond[1], 0, beyond[0]], value=min(value, 0.0))

    def crop(self, x: Tensor, y: Tensor) -> Tensor:
        if self.same:
            return y
        (rows, columns), (down, right) = self.padding, self.stride
        return y[:, :, : -(-(x.shape[2] + rows) // down), : -(-(x.shape[3] + columns) // right)]


class MaxPool2D(Pool2D):
    """The maximum over a window; the padding counts as minus infinity."""

    def forward(self, x: Tensor) -> Tensor:
        return self.crop(x, functional.max_pool2d(self.pad(x, -math.inf), self.kernel, self.stride))


class AvgPool2D(Pool2D):
    """The mean over a window as a quotient of sums; the gradient of nn.AvgPool2D divides in float32."""

    def forward(self, x: Tensor) -> Tensor:
        counts = self.sums(paddle.ones([1, 1, *x.shape[2:]], x.dtype), float(self.count_padding))
        return self.crop(x, self.sums(x, 0.0) / counts)

    def sums(self, x: Tensor, padding: float) -> Tensor:
        ones = paddle.ones([x.shape[1], 1, *self.kernel], x.dtype)
        return functional.conv2d(self.pad(x, padding), ones, stride=self.stride, groups=x.shape[1])


class AdaptiveAvgPool2D(nn.Layer):
    """The mean over windows that divide a map; the gradient of nn.AdaptiveAvgPool2D divides in float32."""

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.size = pair(size)

    def forward(self, x: Tensor) -> Tensor:
        for axis, count in enumerate(self.size, 2):
            length = x.shape[axis]
            bounds = [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
            means = [x.slice([axis], [start], [end]).mean(axis, keepdim=True) for start, end in bounds]
            x = paddle.concat(means, axis=axis)
        return x


class GlobalAvgPool2D(nn.Layer):
    """The mean over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean([2, 3])


class MeanPixel(nn.Layer):
    """The mean over height and width, which become 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean([2, 3], keepdim=True)


class GlobalMaxPool2D(nn.AdaptiveMaxPool2D):
    """The maximum over height and width: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)


class ChannelAvgPool2D(nn.Layer):
    """The mean over the channels: (batch, channels, height, width) -> (batch, 1, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)


class ChannelMaxPool2D(nn.Layer):
    """The maximum over the channels; the gradient of paddle.max goes to each of equal elements."""

    def forward(self, x: Tensor) -> Tensor:
        return paddle.take_along_axis(x, x.argmax(1, keepdim=True), 1)


class BlurPool2D(nn.Layer):
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, divided by 16 (Zhang 2019)."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        row = paddle.to_tensor([0.25, 0.5, 0.25], x.dtype)
        kernel = paddle.outer(row, row).reshape([1, 1, 3, 3]).tile([x.shape[1], 1, 1, 1])
        padded = functional.pad(x, [1, 1, 1, 1], mode="reflect")
        return functional.conv2d(padded, kernel, stride=self.stride, groups=x.shape[1])


class PadChannels2D(nn.Layer):
    """Adds channels of zeros before and after the input's own."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        volume = functional.pad(x.unsqueeze(1), [0, 0, 0, 0, self.before, self.after], data_format="NCDHW")
        return volume.squeeze(1)


class SplitSum(nn.Layer):
    """The sum of equal parts of the channels."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        return paddle.stack(x.chunk(self.parts, axis=1)).sum(axis=0)


class SplitSoftmax(nn.Layer):
    """The softmax over the parts of each group of channels (Zhang et al. 2020, ResNeSt)."""

    def __init__(self, parts: int, groups: int = 1) -> None:
        super().__init__()
        self.parts = parts
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
        split = x.reshape([0, self.groups, self.parts, -1]).transpose([0, 2, 1, 3])
        return functional.softmax(split, axis=1).reshape(x.shape)


class SpaceToDepth(nn.Layer):
    """Tiles of pixels as channels."""

    def __init__(self, size: int, order: str) -> None:
        super().__init__()
        self.size = size
        # The axes are batch, channel, tile's row, row in the tile, tile's column, column in the tile.
        axes = [{"channel": 1, "row": 3, "column": 5}[name] for name in order.split("_")]
        self.axes = [0, *axes, 2, 4]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2] // self.size, x.shape[3] // self.size
        tiles = x.reshape([0, x.shape[1], height, self.size, width, self.size])
        return tiles.transpose(self.axes).reshape([0, x.shape[1] * self.size**2, height, width])


class Upsample(nn.Layer):
    """A larger map: pixels repeated, or interpolated between their centres; nn.Upsample weighs in float32."""

    def __init__(self, factor: int, mode: str = "nearest") -> None:
        super().__init__()
        self.factor = factor
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "nearest":
            return x.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        rows, columns = self.shares(x.shape[2], x), self.shares(x.shape[3], x)
        return paddle.matmul(paddle.matmul(rows, x), columns, transpose_y=True)

    def shares(self, size: int, x: Tensor) -> Tensor:
        pixels = paddle.arange(size).astype(x.dtype)
        centres = (paddle.arange(size * self.factor).astype(x.dtype) + 0.5) / self.factor - 0.5
        inside = paddle.clip(centres, 0, size - 1)
        return functional.relu(1 - (inside.unsqueeze(-1) - pixels).abs())


class Scale(nn.Layer):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * paddle.full([], self.factor, x.dtype)  # Paddle multiplies by a number in float32


class DropPath(nn.Layer):
    """Stochastic depth: in training, the map of an image is zero with probability ``rate``, else over 1 - rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = paddle.bernoulli(paddle.full([x.shape[0], *[1] * (x.ndim - 1)], 1 - self.rate, x.dtype))
        return x * (kept / (1 - self.rate))


class DropBlock2D(nn.Layer):
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
        centres = paddle.bernoulli(paddle.full([batch, 1, height, width], probability, x.dtype))
        margins = [(columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2]
        kept = 1 - functional.max_pool2d(functional.pad(centres, margins), (rows, columns), stride=1)
        return x * (kept * (batch * height * width / (kept.sum() + 1e-7)))


def resize_like(x: Tensor, first: Tensor) -> Tensor:
    """Return a map in the size of another, of the nearest pixels."""
    rows = paddle.arange(first.shape[2]) * x.shape[2] // first.shape[2]
    columns = paddle.arange(first.shape[3]) * x.shape[3] // first.shape[3]
    return x.index_select(rows, 2).index_select(columns, 3)


def numbered(name: str, *layers: nn.Layer, start: int = 0) -> nn.Sequential:
    """Return layers that run one after another, under a name with a number."""
    return nn.Sequential(*[(f"{name}{number}", layer) for number, layer in enumerate(layers, start)])


def draw_bias(layer: nn.Layer) -> None:
    """Draw a bias uniformly between the bounds 1 / sqrt(fan-in), as PyTorch does; Paddle's is zero."""
    shape = layer.weight.shape
    bound = 1 / math.sqrt(shape[0] if len(shape) == 2 else math.prod(shape[1:]))
    nn.initializer.Uniform(-bound, bound)(layer.bias)
