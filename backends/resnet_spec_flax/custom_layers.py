"""Layers that Flax lacks, or that replace one of its own because that computes something else than the operation.

Maps are (batch, height, width, channels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec import ops
from resnet_spec.ops import DropBlock, StandardizedConv, drop_block_squares

Call = TypeVar("Call", bound=Callable[..., Array])


def in_float32(call: Call) -> Call:
    """Have the ``__call__`` of a layer compute in float32 if x has 16 bits, and round its result once."""

    @wraps(call)
    def compute(layer: Any, x: Array, *rest: Any, **options: Any) -> Array:
        return call(layer, x.astype(jnp.promote_types(x.dtype, jnp.float32)), *rest, **options).astype(x.dtype)

    return compute  # type: ignore[return-value]


class BatchStat(nnx.BatchStat):  # type: ignore[type-arg]
    """A running statistic that is set as a whole without reading the old value's sharding.

    Replaces nnx.BatchStat, which reads it. A traced value has none, and the error message by which JAX says so walks
    through all that was traced so far. That took most of the time of tracing a deep network's training step.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is ...:
            self.set_value(value)
        else:
            super().__setitem__(key, value)


class BatchNorm2d(nnx.BatchNorm):
    """Batch normalisation that keeps the unbiased or the biased running variance.

    Replaces nnx.BatchNorm, which keeps only the biased one, and whose errors do not name the layer.

    nnx computes the variance as E[x^2] - E[x]^2. That reads the maps once, but loses precision if they are far from
    zero, so they are centred on the mean of the first image before. If other images differ from it, the variance is
    larger too, so the error stays within as many roundings as there are images.

    nnx.jit hashes each attribute of each module at each call. What nearly all norms share is an attribute of the class,
    until it is set.
    """

    axis: Any = -1
    axis_name: Any = None
    axis_index_groups: Any = None
    dtype: Any = None
    use_fast_variance: bool = True
    promote_dtype: Any = staticmethod(nnx.nn.dtypes.promote_dtype)
    variance: Literal["unbiased", "biased"] = "unbiased"

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
            momentum=decay,  # nnx's momentum is the weight of the old value
            epsilon=epsilon,
            use_bias=affine,
            use_scale=affine,
            **weights,
        )
        self.mean, self.var = BatchStat(self.mean.get_value()), BatchStat(self.var.get_value())
        self.path = "a norm"
        if variance != "unbiased":
            self.variance = variance
        for name in ("axis", "axis_name", "axis_index_groups", "dtype", "use_fast_variance", "promote_dtype"):
            if getattr(self, name) == getattr(type(self), name):
                delattr(self, name)

    @in_float32
    def __call__(self, x: Array, use_running_average: bool | None = None) -> Array:  # type: ignore[override]
        if self.use_running_average if use_running_average is None else use_running_average:
            return super().__call__(x, True)
        count = x.size // x.shape[-1] * (1 if self.axis_name is None else jax.lax.axis_size(self.axis_name))
        if count == 1:
            raise ValueError(
                f"{self.path} needs more than one value per channel in training, but its input has shape "
                f"{x.shape}; use a larger batch or larger images"
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


class GroupNorm(nnx.GroupNorm):
    """Group normalisation that computes in float32 and returns the type of x.

    Replaces nnx.GroupNorm, whose ``dtype`` rounds the scale and the shift, as in the norms below.
    """

    __call__ = in_float32(nnx.GroupNorm.__call__)


class LayerNorm(nnx.LayerNorm):
    """Layer normalisation that computes in float32 and returns the type of x."""

    __call__ = in_float32(nnx.LayerNorm.__call__)


class RMSNorm(nnx.RMSNorm):
    """Root mean square normalisation that computes in float32 and returns the type of x."""

    __call__ = in_float32(nnx.RMSNorm.__call__)


@dataclass(frozen=True)
class Function:
    """A function of nnx by its name.

    Replaces the function itself, which prints as an object at an address, and may not be picklable.
    """

    name: str

    @in_float32
    def __call__(self, x: Array) -> Array:
        y: Array = getattr(nnx, self.name)(x)
        return y


@dataclass(frozen=True)
class LeakyReLU:
    """x where it is positive, slope * x elsewhere.

    Replaces nnx.leaky_relu, whose derivative at zero is one.
    """

    slope: float

    @in_float32
    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, x * self.slope)


@dataclass(frozen=True)
class GELU:
    """nnx.gelu with a fixed choice between the exact function and the approximation by tanh."""

    approximate: bool

    @in_float32
    def __call__(self, x: Array) -> Array:
        return nnx.gelu(x, approximate=self.approximate)


@dataclass(frozen=True)
class SquaredReLU:
    """max(x, 0) ^ 2."""

    @in_float32
    def __call__(self, x: Array) -> Array:
        return jnp.square(nnx.relu(x))


class PReLU(nnx.Module):
    """x where it is positive, slope * x elsewhere, with one learned slope per channel or for all.

    Replaces nnx.PReLU, which has one slope for all, and whose derivative at zero is one.
    """

    def __init__(self, count: int, param_dtype: str, rngs: Any) -> None:
        self.weight = nnx.Param(jnp.zeros(count, param_dtype))

    @in_float32
    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, x * self.weight[...])


@dataclass(frozen=True)
class MaxPool2d:
    """The maximum over a window; padding counts as minus infinity."""

    window: ops.Window

    def __call__(self, x: Array) -> Array:
        window = self.window
        margins: Any = window.margins(*x.shape[1:3])  # nnx's annotation says str, but it takes pairs
        return nnx.max_pool(x, window.kernel, window.stride, margins)


@dataclass(frozen=True)
class AvgPool2d:
    """The mean over a window. With ``count_padding`` padding counts, but not what ``ceil`` adds beyond it."""

    window: ops.Window
    count_padding: bool

    @in_float32
    def __call__(self, x: Array) -> Array:
        window = self.window
        margins: Any = window.margins(*x.shape[1:3])
        if self.count_padding:  # pad with pixels that count like any other
            padding = replace(window, ceil=False).margins(*x.shape[1:3])
            counted = [(before, min(after, end)) for (before, after), (_, end) in zip(padding, margins, strict=True)]
            x = jnp.pad(x, [(0, 0), *counted, (0, 0)])
            margins = [(0, after - pixels) for (_, after), (_, pixels) in zip(margins, counted, strict=True)]
        is_unpadded = not any(margin for pair in margins for margin in pair)
        # With jax_enable_x64, nnx divides by counts in float64 whatever the dtype of x.
        y = nnx.avg_pool(x, window.kernel, window.stride, margins, count_include_pad=is_unpadded)
        return y.astype(x.dtype)


@dataclass(frozen=True)
class AdaptiveAvgPool2d:
    """The mean over windows that divide a map into a fixed number of rows and columns."""

    size: tuple[int, int]

    @in_float32
    def __call__(self, x: Array) -> Array:
        for axis, count in enumerate(self.size, 1):
            length = x.shape[axis]
            bounds = [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
            parts = [jax.lax.slice_in_dim(x, start, end, axis=axis) for start, end in bounds]
            x = jnp.stack([part.mean(axis=axis) for part in parts], axis=axis)
        return x


@dataclass(frozen=True)
class ChannelAvgPool2d:
    """The mean over channels: (batch, height, width, channels) -> (batch, height, width, 1)."""

    def __call__(self, x: Array) -> Array:
        return x.mean(axis=-1, keepdims=True)


@dataclass(frozen=True)
class ChannelMaxPool2d:
    """The maximum over channels: (batch, height, width, channels) -> (batch, height, width, 1).

    Replaces jnp.max, which divides the gradient among equal maxima; here the first of them gets it.
    """

    def __call__(self, x: Array) -> Array:
        return jnp.take_along_axis(x, x.argmax(axis=-1, keepdims=True), axis=-1)


@dataclass(frozen=True)
class GlobalAvgPool2d:
    """The mean over height and width: (batch, channels), or (batch, 1, 1, channels) with ``keepdims``."""

    keepdims: bool

    def __call__(self, x: Array) -> Array:
        return x.mean(axis=(1, 2), keepdims=self.keepdims)


@dataclass(frozen=True)
class GlobalMaxPool2d:
    """The maximum over height and width: (batch, channels), or (batch, 1, 1, channels) with ``keepdims``.

    Replaces jnp.max, which divides the gradient among equal maxima; here the first of them gets it.
    """

    keepdims: bool

    def __call__(self, x: Array) -> Array:
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        first = pixels.argmax(axis=1, keepdims=True)
        y = jnp.take_along_axis(pixels, first, axis=1)
        return y[:, :, None] if self.keepdims else y[:, 0]


@dataclass(frozen=True)
class ZeroPad2d:
    """Adds zeros around the image."""

    top: int
    bottom: int
    left: int
    right: int

    def __call__(self, x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (self.top, self.bottom), (self.left, self.right), (0, 0)))


@dataclass(frozen=True)
class FlattenChannelsFirst:
    """(batch, height, width, channels) -> (batch, features), ordered by channel, then height, then width."""

    def __call__(self, x: Array) -> Array:
        return (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).reshape(x.shape[0], -1)


class StandardizedConv2d(nnx.Conv):
    """A convolution with weight standardisation: each filter is shifted to mean 0 and scaled to variance 1 first.

    If it is scaled, each filter is then multiplied by a learned gain and a constant.
    """

    def __init__(
        self, channels: int, op: StandardizedConv, input_shape: ops.Shape, *, param_dtype: str, **options: Any
    ) -> None:
        super().__init__(channels, param_dtype=param_dtype, **options)
        self.op = op
        self.factor = op.fan_in_factor(input_shape)
        if op.scaled:
            self.gain = nnx.Param(jnp.ones((1, 1, 1, op.out), param_dtype))

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        op, window = self.op, ops.window_of(self.op)
        kernel = self.kernel[...]  # (height, width, in / groups, out)
        centred = kernel - kernel.mean(axis=(0, 1, 2))
        standardized = centred / jnp.sqrt((centred**2).mean(axis=(0, 1, 2)) + op.epsilon)
        if op.scaled:
            standardized = standardized * (self.gain[...] * self.factor)
        bias = None if self.bias is None else self.bias[...]
        inputs, standardized, bias = nnx.nn.dtypes.promote_dtype((inputs, standardized, bias), dtype=self.dtype)
        y: Array = jax.lax.conv_general_dilated(
            inputs,
            standardized,
            window_strides=window.stride,
            padding=window.margins(*inputs.shape[1:3]),
            rhs_dilation=window.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=op.groups,
        )
        return y if bias is None else y + bias


class ChannelConv1d(nnx.Conv):
    """A convolution along the channels: (batch, channels) -> (batch, channels)."""

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        return super().__call__(inputs[:, :, None])[:, :, 0]


class GlobalResponseNorm2d(nnx.Module):
    """Global response normalisation: x + scale * x * n + bias, with n a channel's norm over the mean of all norms."""

    def __init__(self, channels: int, epsilon: float, param_dtype: str, rngs: Any) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.zeros(channels, param_dtype))
        self.bias = nnx.Param(jnp.zeros(channels, param_dtype))

    @in_float32
    def __call__(self, x: Array) -> Array:
        # A channel of zeros has the norm zero, whose derivative is infinite: it is kept out of the root.
        squares = (x**2).sum(axis=(1, 2), keepdims=True)
        norm = jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))
        ratio = norm / (norm.mean(axis=-1, keepdims=True) + self.epsilon)
        return x + (x * ratio * self.scale[...] + self.bias[...])


@dataclass(frozen=True)
class Upsample:
    """A larger map: pixels repeated, or interpolated between their centres."""

    factor: int
    mode: str

    @in_float32
    def __call__(self, x: Array) -> Array:
        if self.mode == "nearest":
            return x.repeat(self.factor, axis=1).repeat(self.factor, axis=2)
        batch, height, width, channels = x.shape
        shape = (batch, height * self.factor, width * self.factor, channels)
        return jax.image.resize(x, shape, "bilinear")


@dataclass(frozen=True)
class Scale:
    """Multiplication by a constant."""

    factor: float

    @in_float32
    def __call__(self, x: Array) -> Array:
        return x * self.factor


@dataclass(frozen=True)
class OwnScale:
    """Multiplication by a weight of the module that holds this one, with one number per channel or for all."""

    @in_float32
    def __call__(self, x: Array, weight: Array) -> Array:
        return x * weight


@dataclass(frozen=True)
class OwnShift:
    """Addition of a weight of the module that holds this one, with one number per channel or for all."""

    @in_float32
    def __call__(self, x: Array, weight: Array) -> Array:
        return x + weight


class SimpleNorm(nnx.Module):
    """x over the standard deviation of its channels, scaled: (batch, ..., channels), the variance over n - 1."""

    def __init__(self, channels: int, epsilon: float, param_dtype: str, rngs: Any) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels, param_dtype))

    @in_float32
    def __call__(self, x: Array) -> Array:
        return x / jnp.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + self.epsilon) * self.scale[...]


class EvoNorm2dS0(nnx.Module):
    """EvoNorm-S0: x * sigmoid(v * x) over the standard deviation of x's group of channels, scaled and shifted."""

    def __init__(self, channels: int, groups: int, epsilon: float, act: bool, param_dtype: str, rngs: Any) -> None:
        self.groups = groups
        self.epsilon = epsilon
        self.act = act
        self.scale = nnx.Param(jnp.ones(channels, param_dtype))
        self.bias = nnx.Param(jnp.zeros(channels, param_dtype))
        if act:
            self.v = nnx.Param(jnp.ones(channels, param_dtype))

    @in_float32
    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        grouped = x.reshape(batch, height, width, self.groups, -1)
        std = jnp.sqrt(grouped.var(axis=(1, 2, 4), keepdims=True) + self.epsilon)
        gated = x * nnx.sigmoid(x * self.v[...]) if self.act else x
        y = (gated.reshape(grouped.shape) / std).reshape(batch, height, width, channels)
        return y * self.scale[...] + self.bias[...]


class FilterResponseNorm2d(nnx.Module):
    """Filter response normalisation: x over its root mean square in each channel, scaled, shifted, then max(y, tau)."""

    def __init__(self, channels: int, epsilon: float, param_dtype: str, rngs: Any) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels, param_dtype))
        self.bias = nnx.Param(jnp.zeros(channels, param_dtype))
        self.tau = nnx.Param(jnp.zeros(channels, param_dtype))

    @in_float32
    def __call__(self, x: Array) -> Array:
        y = x / jnp.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + self.epsilon)
        return jnp.maximum(y * self.scale[...] + self.bias[...], self.tau[...])


@dataclass(frozen=True)
class BlurPool2d:
    """A fixed 3x3 blur with mirrored edges: [1, 2, 1] in both directions, divided by 16."""

    stride: int

    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        row = jnp.array([0.25, 0.5, 0.25], x.dtype)
        kernel = jnp.broadcast_to(jnp.outer(row, row)[:, :, None, None], (3, 3, 1, channels))
        y: Array = jax.lax.conv_general_dilated(
            padded,
            kernel,
            window_strides=(self.stride, self.stride),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )
        return y


@dataclass(frozen=True)
class PadChannels2d:
    """Adds channels of zeros before and after the input's own."""

    before: int
    after: int

    def __call__(self, x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


@dataclass(frozen=True)
class SplitSoftmax:
    """The softmax over the parts of each group of channels, channel by channel."""

    parts: int
    groups: int

    @in_float32
    def __call__(self, x: Array) -> Array:
        # (..., groups, parts, rest) -> (..., parts, groups, rest)
        split = x.reshape(*x.shape[:-1], self.groups, self.parts, -1).swapaxes(-3, -2)
        return nnx.softmax(split, axis=-3).reshape(x.shape)


class DropBlock2d(nnx.Module):
    """DropBlock: in training squares of the map become zero, the same in all channels, and the rest is rescaled."""

    def __init__(self, op: DropBlock) -> None:
        self.op = op
        self.deterministic = True
        self.rngs = nnx.Rngs(dropout=0).dropout.fork()  # populate() gives each layer a key of its own

    def __call__(self, x: Array) -> Array:
        if self.deterministic or self.op.rate == 0:
            return x
        batch, height, width, _ = x.shape
        square_height, square_width, probability = drop_block_squares(
            self.op.rate, self.op.size, self.op.scale, height, width
        )
        centres = jax.random.bernoulli(self.rngs(), probability, (batch, height, width, 1)).astype(x.dtype)
        # A pixel is dropped if a square that covers it has its centre there. A square of even size has one more row
        # above its centre than below, and one more column to the left.
        margins = [((size - 1) // 2, size // 2) for size in (square_height, square_width)]
        kept = 1 - nnx.max_pool(jnp.pad(centres, [(0, 0), *margins, (0, 0)]), (square_height, square_width))
        return x * (kept * (kept.size / (kept.sum() + 1e-7)))
