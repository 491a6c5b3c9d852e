"""Layers that Flax lacks, or that compute something else there than the operation says.

Maps are (batch, height, width, channels) here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.ops import DropBlock, MaxPool, StandardizedConv, drop_block_squares


class BatchStat(nnx.BatchStat):  # type: ignore[type-arg]
    """nnx's own, set as a whole without a look at the old value's sharding.

    A traced value has none, and JAX words that as an error that names its origin, for which it walks through all that was traced so far:
    most of the time in which a deep network's training step is traced.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is ...:
            self.set_value(value)
        else:
            super().__setitem__(key, value)


class BatchNorm2d(nnx.BatchNorm):
    """nnx's own; it keeps the unbiased variance, unless asked for the biased, and errors say which layer.

    nnx takes the variance as a mean of squares less a squared mean. That reads the maps once, and cancels where they are far from zero. So they
    are centred on the first image's mean before. Images that differ add to the variance too, so what cancels is at most as many
    roundings as there are images.
    """

    def __init__(
        self,
        channels: int,
        epsilon: float,
        decay: float,
        variance: Literal["unbiased", "biased"],
        affine: bool,
        **weights: Any,
    ) -> None:
        super().__init__(
            channels,
            use_running_average=True,
            momentum=decay,  # the weight of the old value, here
            epsilon=epsilon,
            use_bias=affine,
            use_scale=affine,
            **weights,
        )
        self.mean, self.var = BatchStat(self.mean.get_value()), BatchStat(self.var.get_value())
        self.path = "a norm"
        self.variance = variance

    def __call__(self, x: Array, use_running_average: bool | None = None) -> Array:  # type: ignore[override]
        if self.use_running_average if use_running_average is None else use_running_average:
            return super().__call__(x, True)
        count = x.size // x.shape[-1] * (1 if self.axis_name is None else jax.lax.axis_size(self.axis_name))
        if count == 1:
            raise ValueError(
                f"{self.path} is given one value a channel, {x.shape}, which has no variance to train with; "
                "it needs a larger batch or larger images"
            )
        centre = jax.lax.stop_gradient(x[0].mean(axis=(0, 1), dtype=jnp.promote_types(x.dtype, jnp.float32)))
        if self.axis_name is not None:
            centre = jax.lax.pmean(centre, self.axis_name, axis_index_groups=self.axis_index_groups)
        old = self.var[...] * self.momentum
        y = super().__call__(x - centre, False)
        self.mean[...] += (1 - self.momentum) * centre
        if self.variance == "unbiased":
            self.var[...] = (self.var[...] - old) * (count / (count - 1)) + old
        return y


@dataclass(frozen=True)
class Function:
    """A function of nnx by its name: the functions themselves print as objects at addresses, and can't be pickled."""

    name: str

    def __call__(self, x: Array) -> Array:
        y: Array = getattr(nnx, self.name)(x)
        return y


@dataclass(frozen=True)
class LeakyReLU:
    """x where it is positive, slope * x elsewhere. (nnx's has a slope of one at zero.)"""

    slope: float

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, x * self.slope)


@dataclass(frozen=True)
class GELU:
    """nnx.gelu, exact unless asked otherwise."""

    approximate: bool

    def __call__(self, x: Array) -> Array:
        return nnx.gelu(x, approximate=self.approximate)


@dataclass(frozen=True)
class MaxPool2d:
    """The maximum over a square window; padding counts as minus infinity."""

    kernel: int
    stride: int
    padding: int
    ceil: bool

    def __call__(self, x: Array) -> Array:
        return nnx.max_pool(x, (self.kernel, self.kernel), (self.stride, self.stride), _margins(self, x))


@dataclass(frozen=True)
class AvgPool2d:
    """The mean over a square window. Padding counts or does not; what ceil adds beyond it never does."""

    kernel: int
    stride: int
    padding: int
    ceil: bool
    count_padding: bool

    def __call__(self, x: Array) -> Array:
        margins: Any = _margins(self, x)
        if self.count_padding:  # it becomes pixels like others
            counted = [(before, min(self.padding, after)) for before, after in margins]
            x = jnp.pad(x, [(0, 0), *counted, (0, 0)])
            margins = [(0, after - own) for (_, after), (_, own) in zip(margins, counted, strict=True)]
        windows = (self.kernel, self.kernel), (self.stride, self.stride), margins
        whole = not any(after for around in margins for after in around)
        # With jax_enable_x64, nnx counts in float64 whatever the type of x.
        return nnx.avg_pool(x, *windows, count_include_pad=whole).astype(x.dtype)


def _margins(pool: MaxPool2d | AvgPool2d, x: Array) -> Any:  # nnx says str, and takes pairs
    """What to add before and after height and width, for the last window to be PyTorch's last."""
    height, width, channels = x.shape[1:]
    gives = MaxPool(pool.kernel, pool.stride, pool.padding, pool.ceil).output_shape((channels, height, width))
    needs = [(count - 1) * pool.stride + pool.kernel - pool.padding for count in gives[1:]]
    return [(pool.padding, max(0, need - size)) for need, size in zip(needs, (height, width), strict=True)]


@dataclass(frozen=True)
class GlobalAvgPool2d:
    """The mean over height and width: (batch, height, width, channels) -> (batch, channels), or (batch, 1, 1, channels)."""

    keepdims: bool

    def __call__(self, x: Array) -> Array:
        return x.mean(axis=(1, 2), keepdims=self.keepdims)


@dataclass(frozen=True)
class GlobalMaxPool2d:
    """The maximum over height and width; its gradient goes to the first of equal ones, where jnp.max would share it out."""

    keepdims: bool

    def __call__(self, x: Array) -> Array:
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        first = pixels.argmax(axis=1, keepdims=True)
        y = jnp.take_along_axis(pixels, first, axis=1)
        return y[:, :, None] if self.keepdims else y[:, 0]


@dataclass(frozen=True)
class ZeroPad2d:
    """Zeros around the image."""

    top: int
    bottom: int
    left: int
    right: int

    def __call__(self, x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (self.top, self.bottom), (self.left, self.right), (0, 0)))


@dataclass(frozen=True)
class FlattenChannelsFirst:
    """(batch, height, width, channels) -> (batch, features), in the canonical order: channels, height, width."""

    def __call__(self, x: Array) -> Array:
        return (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).reshape(x.shape[0], -1)


class StandardizedConv2d(nnx.Conv):
    """A convolution whose kernels are standardised first: each less its mean, over its standard deviation."""

    def __init__(self, channels: int, op: StandardizedConv, **named: Any) -> None:
        super().__init__(channels, **named)
        self.op = op

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        op = self.op
        kernel = self.kernel[...]  # (height, width, in / groups, out)
        centred = kernel - kernel.mean(axis=(0, 1, 2))
        spread = jnp.sqrt((centred**2).mean(axis=(0, 1, 2)) + op.epsilon)
        y: Array = jax.lax.conv_general_dilated(
            inputs,
            centred / spread,
            window_strides=(op.stride, op.stride),
            padding=[(op.padding, op.padding)] * 2,
            rhs_dilation=(op.dilation, op.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=op.groups,
        )
        return y if self.bias is None else y + self.bias[...]


class ChannelConv1d(nnx.Conv):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        return super().__call__(inputs[:, :, None])[:, :, 0]


class EvoNorm2dS0(nnx.Module):
    """x * sigmoid(v * x) over the standard deviation of a group of channels, then a scale and a shift."""

    def __init__(self, channels: int, groups: int, epsilon: float, param_dtype: str, rngs: Any) -> None:
        self.groups = groups
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels, param_dtype))
        self.bias = nnx.Param(jnp.zeros(channels, param_dtype))
        self.v = nnx.Param(jnp.ones(channels, param_dtype))

    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        grouped = x.reshape(batch, height, width, self.groups, -1)
        spread = jnp.sqrt(grouped.var(axis=(1, 2, 4), keepdims=True) + self.epsilon)
        gated = x * nnx.sigmoid(x * self.v[...])
        y = (gated.reshape(grouped.shape) / spread).reshape(batch, height, width, channels)
        return y * self.scale[...] + self.bias[...]


class FilterResponseNorm2d(nnx.Module):
    """x over the root of its mean square in height and width, a scale, a shift, and a learnt threshold."""

    def __init__(self, channels: int, epsilon: float, param_dtype: str, rngs: Any) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels, param_dtype))
        self.bias = nnx.Param(jnp.zeros(channels, param_dtype))
        self.tau = nnx.Param(jnp.zeros(channels, param_dtype))

    def __call__(self, x: Array) -> Array:
        y = x / jnp.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + self.epsilon)
        return jnp.maximum(y * self.scale[...] + self.bias[...], self.tau[...])


@dataclass(frozen=True)
class BlurPool2d:
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, over 16."""

    stride: int

    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        line = jnp.array([0.25, 0.5, 0.25], x.dtype)
        kernel = jnp.broadcast_to(jnp.outer(line, line)[:, :, None, None], (3, 3, 1, channels))
        y: Array = jax.lax.conv_general_dilated(
            around,
            kernel,
            window_strides=(self.stride, self.stride),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )
        return y


@dataclass(frozen=True)
class PadChannels2d:
    """Channels of zeros before and after the image's own."""

    before: int
    after: int

    def __call__(self, x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


@dataclass(frozen=True)
class SplitSum:
    """The channels in equal parts, added up: (batch, ..., parts * channels) -> (batch, ..., channels)."""

    parts: int

    def __call__(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.parts, -1).sum(axis=-2)


@dataclass(frozen=True)
class SplitSoftmax:
    """For each channel, the softmax over the parts that it comes in."""

    parts: int
    groups: int

    def __call__(self, x: Array) -> Array:
        # (..., groups, parts, rest) -> (..., parts, groups, rest)
        split = x.reshape(*x.shape[:-1], self.groups, self.parts, -1).swapaxes(-3, -2)
        return nnx.softmax(split, axis=-3).reshape(x.shape)


class DropBlock2d(nnx.Module):
    """In training squares of the map become zero, in all channels alike, and what stays is scaled to keep the mean."""

    def __init__(self, op: DropBlock) -> None:
        self.op = op
        self.deterministic = True
        self.rngs = nnx.Rngs(dropout=0).dropout.fork()  # build gives it a key of its own

    def __call__(self, x: Array) -> Array:
        if self.deterministic or self.op.rate == 0:
            return x
        batch, height, width, _ = x.shape
        tall, wide, probability = drop_block_squares(self.op.rate, self.op.size, self.op.scale, height, width)
        middles = jax.random.bernoulli(self.rngs(), probability, (batch, height, width, 1)).astype(x.dtype)
        # A square reaches further up and left of its middle than down and right, where its size is even.
        reach = [((tall - 1) // 2, tall // 2), ((wide - 1) // 2, wide // 2)]
        around = jnp.pad(middles, [(0, 0), *reach, (0, 0)])
        kept = 1 - nnx.max_pool(around, (tall, wide))
        return x * (kept * (kept.size / (kept.sum() + 1e-7)))
