"""Layers that Flax lacks, or has with another meaning, from which ``resnet-spec emit`` copies those it needs.

Maps are (batch, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

he_normal_fan_out = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
he_normal_fan_in = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
lecun_normal = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
glorot_uniform = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform")
uniform_fan_in = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
zeros = nnx.initializers.zeros_init()


conv = partial(nnx.Conv, padding=0, use_bias=False, kernel_init=he_normal_fan_out)


class Sequential(nnx.List[Any]):
    """Layers that run one after another, under their numbers; nnx.Sequential has them in an attribute ``layers``."""

    def __init__(self, *layers: Callable[[Array], Array]) -> None:
        super().__init__(layers)

    def __call__(self, x: Array) -> Array:
        for layer in self:
            x = layer(x)
        return x


class Numbered(nnx.Module):
    """Layers that run one after another, under a name with a number."""

    def __init__(self, name: str, *layers: Callable[[Array], Array], start: int = 0) -> None:
        self.names = tuple(f"{name}{number}" for number in range(start, start + len(layers)))
        for own, layer in zip(self.names, layers, strict=True):
            setattr(self, own, layer)

    def __call__(self, x: Array) -> Array:
        for own in self.names:
            x = getattr(self, own)(x)
        return x


def numbered(name: str, *layers: Callable[[Array], Array], start: int = 0) -> Numbered:
    """Return layers that run one after another, under a name with a number."""
    return Numbered(name, *layers, start=start)


def pair(value: Any) -> tuple[int, int]:
    """Return a value for the height and one for the width."""
    return (value, value) if isinstance(value, int) else tuple(value)


def uniform(bound: float) -> nnx.Initializer:
    """Return an initialiser that draws numbers from -bound to bound."""
    return lambda key, shape, dtype=float, *_: jax.random.uniform(key, shape, dtype, -bound, bound)


def conv_with_bias(
    in_features: int, out_features: int, kernel_size: tuple[int, int], *, rngs: nnx.Rngs, **options: Any
) -> nnx.Conv:
    """Return a convolution whose bias is drawn as in PyTorch, within 1 / sqrt(fan-in); Flax's is zero."""
    fan_in = in_features // options.get("feature_group_count", 1) * math.prod(kernel_size)
    options |= {"use_bias": True, "bias_init": uniform(fan_in**-0.5)}
    return conv(in_features, out_features, kernel_size, rngs=rngs, **options)


def linear(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> nnx.Linear:
    """Return a fully connected layer over the last axis, drawn as in PyTorch within 1 / sqrt(in_features)."""
    options = {"kernel_init": uniform(in_features**-0.5), "bias_init": uniform(in_features**-0.5)} | options
    return nnx.Linear(in_features, out_features, rngs=rngs, **options)


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation whose running variance is unbiased, as in PyTorch; nnx.BatchNorm keeps the biased one."""

    def __init__(self, channels: int, epsilon: float, *, momentum: float = 0.9, rngs: nnx.Rngs, **options: Any) -> None:
        options |= {"epsilon": epsilon, "momentum": momentum, "use_fast_variance": False}
        super().__init__(channels, rngs=rngs, **options)

    def __call__(self, x: Array, use_running_average: bool | None = None, **options: Any) -> Array:
        old = self.var[...] * self.momentum
        y = super().__call__(x, use_running_average, **options)
        if not (self.use_running_average if use_running_average is None else use_running_average):
            count = x.size // x.shape[-1]
            self.var[...] = old + (self.var[...] - old) * (count / (count - 1))
        return y


class StandardizedConv(nnx.Conv):
    """A convolution whose kernels are standardised first, and then scaled if there is a gain (Qiao et al. 2019)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, int],
        *,
        epsilon: float = 1e-6,
        scaled: bool = False,
        factor: float = 1.0,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        fan_in = in_features // options.get("feature_group_count", 1) * math.prod(kernel_size)
        defaults: dict[str, Any] = {
            "padding": 0,
            "use_bias": False,
            "kernel_init": he_normal_fan_out,
            "bias_init": uniform(fan_in**-0.5),
        }
        super().__init__(in_features, out_features, kernel_size, rngs=rngs, **defaults | options)
        self.epsilon = epsilon
        self.factor = factor * fan_in**-0.5
        self.gain = nnx.Param(jnp.ones((1, 1, 1, out_features))) if scaled else None

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        kernel = self.kernel[...]  # (height, width, in / groups, out)
        centred = kernel - kernel.mean(axis=(0, 1, 2))
        kernel = centred / jnp.sqrt((centred**2).mean(axis=(0, 1, 2)) + self.epsilon)
        if self.gain is not None:
            kernel = kernel * (self.gain[...] * self.factor)
        sides: Any = self.padding
        if not isinstance(sides, str):
            sides = [(side, side) for side in pair(sides)]
        y = jax.lax.conv_general_dilated(
            inputs,
            kernel,
            window_strides=pair(self.strides),
            padding=sides,
            rhs_dilation=pair(self.kernel_dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.feature_group_count,
        )
        return y if self.bias is None else y + self.bias[...]


class ChannelConv(nnx.Conv):
    """A convolution along the channels of (batch, channels)."""

    def __init__(self, kernel_size: int, init: nnx.Initializer = uniform_fan_in, *, rngs: nnx.Rngs) -> None:
        half = kernel_size // 2
        super().__init__(1, 1, (kernel_size,), padding=half, use_bias=False, kernel_init=init, rngs=rngs)

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        return super().__call__(inputs[:, :, None])[:, :, 0]


class PReLU(nnx.Module):
    """x if x > 0, otherwise weight * x; nnx.PReLU has one slope for all channels."""

    def __init__(self, count: int, start: float = 0.25) -> None:
        self.weight = nnx.Param(jnp.full((count,), start))

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, x * self.weight[...])


@dataclass(frozen=True)
class LeakyReLU:
    """x if x > 0, otherwise slope * x; the derivative of nnx.leaky_relu at zero is 1."""

    slope: float

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, x * self.slope)


@dataclass(frozen=True)
class GELU:
    """x times the normal cumulative distribution function of x; ``approximate`` by tanh."""

    approximate: bool = False

    def __call__(self, x: Array) -> Array:
        return nnx.gelu(x, approximate=self.approximate)


def squared_relu(x: Array) -> Array:
    """Return max(x, 0) ^ 2."""
    return jnp.square(nnx.relu(x))


class SimpleNorm(nnx.Module):
    """x over the standard deviation of the channels of each pixel, times a scale per channel."""

    def __init__(self, channels: int, epsilon: float = 1e-6, start: float = 1.0) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.full((channels,), start))

    def __call__(self, x: Array) -> Array:
        return x / jnp.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + self.epsilon) * self.scale[...]


class GlobalResponseNorm(nnx.Module):
    """x + scale * x * n + bias, where n is the norm of a channel over the mean norm (Woo et al. 2023)."""

    def __init__(self, channels: int, epsilon: float = 1e-6, start: float = 0.0) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.full((channels,), start))
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, x: Array) -> Array:
        # A channel of zeros has the norm zero, whose derivative is infinite: it is kept out of the root.
        squares = (x**2).sum(axis=(1, 2), keepdims=True)
        norm = jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))
        ratio = norm / (norm.mean(axis=-1, keepdims=True) + self.epsilon)
        return x + (x * ratio * self.scale[...] + self.bias[...])


class EvoNormS0(nnx.Module):
    """x * sigmoid(v * x) over the standard deviation of a group, scaled and shifted (Liu et al. 2020)."""

    def __init__(self, channels: int, groups: int, epsilon: float, act: bool = True, start: float = 1.0) -> None:
        self.groups = groups
        self.epsilon = epsilon
        self.act = act
        self.scale = nnx.Param(jnp.full((channels,), start))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        if act:
            self.v = nnx.Param(jnp.ones((channels,)))

    def __call__(self, x: Array) -> Array:
        grouped = x.reshape(*x.shape[:3], self.groups, -1)
        std = jnp.sqrt(grouped.var(axis=(1, 2, 4), keepdims=True) + self.epsilon)
        gated = x * nnx.sigmoid(x * self.v[...]) if self.act else x
        y = (gated.reshape(grouped.shape) / std).reshape(x.shape)
        return y * self.scale[...] + self.bias[...]


class FilterResponseNorm(nnx.Module):
    """x over its root mean square in each channel, scaled, shifted, then max(y, tau) (Singh and Krishnan 2019)."""

    def __init__(self, channels: int, epsilon: float, start: float = 1.0) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.full((channels,), start))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.tau = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, x: Array) -> Array:
        y = x / jnp.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + self.epsilon)
        return jnp.maximum(y * self.scale[...] + self.bias[...], self.tau[...])


@dataclass(frozen=True)
class Window:
    """A window that moves over a map; ``ceil`` keeps a last one that reaches past the edge."""

    kernel: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    ceil: bool = False

    def margins(self, x: Array, ceil: bool) -> list[tuple[int, int]]:
        """Return the rows and columns to add on each side of a map."""
        found = []
        for axis, (kernel, stride) in enumerate(zip(pair(self.kernel), pair(self.stride), strict=True)):
            size = x.shape[1 + axis]
            if isinstance(self.padding, str):
                total = max(0, (size - 1) // stride * stride + kernel - size)
                found.append((total // 2, total - total // 2))
                continue
            before = after = pair(self.padding)[axis]
            if ceil:
                count = -(-(size + 2 * before - kernel) // stride) + 1
                count -= (count - 1) * stride >= size + before  # a window that starts in the padding does not count
                after = max(0, (count - 1) * stride + kernel - before - size)
            found.append((before, after))
        return found


@dataclass(frozen=True)
class MaxPool2d(Window):
    """The maximum over a window; the padding counts as minus infinity."""

    def __call__(self, x: Array) -> Array:
        margins: Any = self.margins(x, self.ceil)
        return nnx.max_pool(x, pair(self.kernel), pair(self.stride), margins)


@dataclass(frozen=True)
class AvgPool2d(Window):
    """The mean over a window, of the padding too with ``count_padding``."""

    count_padding: bool = False

    def __call__(self, x: Array) -> Array:
        margins: Any = self.margins(x, self.ceil)
        counts = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
        if self.count_padding:
            padding = self.margins(x, False)
            counted = [(before, min(after, end)) for (before, after), (_, end) in zip(padding, margins, strict=True)]
            sides = [(0, 0), *counted, (0, 0)]
            x, counts = jnp.pad(x, sides), jnp.pad(counts, sides, constant_values=1)
            margins = [(0, after - pixels) for (_, after), (_, pixels) in zip(margins, counted, strict=True)]
        window, strides = (1, *pair(self.kernel), 1), (1, *pair(self.stride), 1)
        sums = [
            jax.lax.reduce_window(y, 0.0, jax.lax.add, window, strides, [(0, 0), *margins, (0, 0)]) for y in (x, counts)
        ]
        return sums[0] / sums[1]


@dataclass(frozen=True)
class AdaptiveAvgPool2d:
    """The mean over windows that divide a map into a fixed number of rows and columns."""

    size: int | tuple[int, int]

    def __call__(self, x: Array) -> Array:
        for axis, count in enumerate(pair(self.size), 1):
            length = x.shape[axis]
            bounds = [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
            parts = [jax.lax.slice_in_dim(x, start, end, axis=axis) for start, end in bounds]
            x = jnp.stack([part.mean(axis=axis) for part in parts], axis=axis)
        return x


def global_avg_pool(x: Array) -> Array:
    """Return the mean over height and width: (batch, height, width, channels) -> (batch, channels)."""
    return x.mean(axis=(1, 2))


def mean_pixel(x: Array) -> Array:
    """Return the mean over height and width, which become 1."""
    return x.mean(axis=(1, 2), keepdims=True)


def global_max_pool(x: Array) -> Array:
    """Return the maximum over height and width; of equal elements, the first receives the gradient."""
    pixels = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(pixels, pixels.argmax(axis=1, keepdims=True), axis=1)[:, 0]


def max_pixel(x: Array) -> Array:
    """Return the maximum over height and width, which become 1."""
    return global_max_pool(x)[:, None, None]


def channel_avg_pool(x: Array) -> Array:
    """Return the mean over the channels: (batch, height, width, channels) -> (batch, height, width, 1)."""
    return x.mean(axis=-1, keepdims=True)


def channel_max_pool(x: Array) -> Array:
    """Return the maximum over the channels; of equal elements, the first receives the gradient."""
    return jnp.take_along_axis(x, x.argmax(axis=-1, keepdims=True), axis=-1)


def flatten(x: Array) -> Array:
    """Return a map as features, ordered by channel, then height, then width, as in PyTorch."""
    return (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).reshape(x.shape[0], -1)


@dataclass(frozen=True)
class BlurPool2d:
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, divided by 16 (Zhang 2019)."""

    stride: int = 2

    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        row = jnp.array([0.25, 0.5, 0.25], x.dtype)
        return jax.lax.conv_general_dilated(
            jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"),
            jnp.broadcast_to(jnp.outer(row, row)[:, :, None, None], (3, 3, 1, channels)),
            window_strides=pair(self.stride),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )


@dataclass(frozen=True)
class ZeroPad2d:
    """Adds zeros around a map."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __call__(self, x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (self.top, self.bottom), (self.left, self.right), (0, 0)))


@dataclass(frozen=True)
class PadChannels:
    """Adds channels of zeros before and after the input's own."""

    before: int
    after: int

    def __call__(self, x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


@dataclass(frozen=True)
class SplitSum:
    """The sum of equal parts of the channels."""

    parts: int

    def __call__(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.parts, -1).sum(axis=-2)


@dataclass(frozen=True)
class SplitSoftmax:
    """The softmax over the parts of each group of channels (Zhang et al. 2020, ResNeSt)."""

    parts: int
    groups: int = 1

    def __call__(self, x: Array) -> Array:
        # (..., groups, parts, rest) -> (..., parts, groups, rest)
        split = x.reshape(*x.shape[:-1], self.groups, self.parts, -1).swapaxes(-3, -2)
        return nnx.softmax(split, axis=-3).reshape(x.shape)


@dataclass(frozen=True)
class SpaceToDepth:
    """Tiles of pixels as channels."""

    size: int
    order: str

    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        rows, columns = height // self.size, width // self.size
        # The axes are batch, tile's row, row in the tile, tile's column, column in the tile, channel.
        tiles = x.reshape(batch, rows, self.size, columns, self.size, channels)
        axes = [{"channel": 5, "row": 2, "column": 4}[name] for name in self.order.split("_")]
        return tiles.transpose(0, 1, 3, *axes).reshape(batch, rows, columns, -1)


@dataclass(frozen=True)
class ChannelShuffle:
    """Channel (group, i) moves to (i, group) (Zhang et al. 2018, ShuffleNet)."""

    groups: int

    def __call__(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.groups, -1).swapaxes(-1, -2).reshape(x.shape)


@dataclass(frozen=True)
class Upsample:
    """A larger map: pixels repeated, or interpolated between their centres."""

    factor: int
    mode: str = "nearest"

    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        if self.mode == "nearest":
            return x.repeat(self.factor, axis=1).repeat(self.factor, axis=2)
        return jax.image.resize(x, (batch, height * self.factor, width * self.factor, channels), "bilinear")


@dataclass(frozen=True)
class Scale:
    """Multiplication by a constant."""

    factor: float

    def __call__(self, x: Array) -> Array:
        return x * self.factor


def drop_path(rate: float, axes: int, *, rngs: nnx.Rngs) -> nnx.Dropout:
    """Return stochastic depth: in training, all of an image is zero with probability ``rate``, else over 1 - rate."""
    return nnx.Dropout(rate, broadcast_dims=tuple(range(1, axes)), rngs=rngs)


class DropBlock2d(nnx.Module):
    """In training, squares of the map become zero, the same in all channels, and the rest is scaled."""

    def __init__(self, rate: float, size: int = 7, scale: float = 1.0, *, rngs: nnx.Rngs) -> None:
        self.rate = rate
        self.size = size
        self.scale = scale
        self.deterministic = False
        self.rngs = rngs.dropout.fork()

    def __call__(self, x: Array) -> Array:
        if self.deterministic or self.rate == 0:
            return x
        batch, height, width, _ = x.shape
        rows, columns = min(self.size, height), min(self.size, width)
        places = (height - rows + 1) * (width - columns + 1)
        probability = min(1.0, self.scale * self.rate * height * width / (rows * columns) / places)
        centres = jax.random.bernoulli(self.rngs(), probability, (batch, height, width, 1)).astype(x.dtype)
        margins = [((size - 1) // 2, size // 2) for size in (rows, columns)]
        kept = 1 - nnx.max_pool(jnp.pad(centres, [(0, 0), *margins, (0, 0)]), (rows, columns))
        return x * (kept * (kept.size / (kept.sum() + 1e-7)))


def resize_like(x: Array, first: Array) -> Array:
    """Return a map in the size of another, of the nearest pixels."""
    for axis in (1, 2):
        size = first.shape[axis]
        x = x.take(jnp.arange(size) * x.shape[axis] // size, axis=axis)
    return x
