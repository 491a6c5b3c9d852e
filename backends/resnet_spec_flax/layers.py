"""An operation to a native layer: Flax's own wherever it computes exactly what the operation says.

Maps are (batch, height, width, channels) here. What keeps no state is a frozen dataclass, static to nnx as the functions in an
nnx.Sequential are: a user can put any function in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias, assert_never

import jax.numpy as jnp
from flax import nnx
from jax import Array

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

Layer: TypeAlias = Callable[[Array], Array]

_ZEROS = nnx.initializers.zeros_init()  # the cheapest to trace


def layer(leaf: Leaf, dtype: str) -> Layer:
    """The layer of a leaf. Weights are abstract, a shape and a type: none is drawn here only to be replaced."""
    channels = leaf.given[0]
    match leaf.op:
        case Conv(out, kernel, stride, padding, dilation, groups, bias):
            return _abstract(
                nnx.Conv,
                channels,
                out,
                (kernel, kernel),
                strides=stride,
                padding=padding,
                kernel_dilation=dilation,
                feature_group_count=groups,
                use_bias=bias,
                kernel_init=_ZEROS,
                param_dtype=dtype,
            )
        case Linear(out, bias):
            return _abstract(nnx.Linear, channels, out, use_bias=bias, kernel_init=_ZEROS, param_dtype=dtype)
        case BatchNorm(epsilon, decay, variance, affine):
            return _abstract(BatchNorm2d, leaf.path, channels, epsilon, decay, variance, affine, param_dtype=dtype)
        case GroupNorm(groups, epsilon):
            return _abstract(
                nnx.GroupNorm, channels, groups, epsilon=epsilon, use_fast_variance=False, param_dtype=dtype
            )
        case LayerNorm(epsilon):
            return _abstract(nnx.LayerNorm, channels, epsilon=epsilon, use_fast_variance=False, param_dtype=dtype)
        case Relu():
            return Function("relu")
        case Relu6():
            return Function("relu6")
        case LeakyRelu(slope):
            return LeakyReLU(slope)
        case Elu():
            return Function("elu")
        case Gelu(approximate):
            return GELU(approximate)
        case Silu():
            return Function("silu")
        case Sigmoid():
            return Function("sigmoid")
        case Tanh():
            return Function("tanh")
        case HardSigmoid():
            return Function("hard_sigmoid")
        case HardSwish():
            return Function("hard_swish")
        case MaxPool(kernel, stride, padding, ceil):
            return MaxPool2d(kernel, stride, padding, ceil)
        case AvgPool(kernel, stride, padding, ceil, count_padding):
            return AvgPool2d(kernel, stride, padding, ceil, count_padding)
        case GlobalAvgPool(keepdims):
            return GlobalAvgPool2d(keepdims)
        case GlobalMaxPool(keepdims):
            return GlobalMaxPool2d(keepdims)
        case ZeroPad(top, bottom, left, right):
            return ZeroPad2d(top, bottom, left, right)
        case Flatten():
            return FlattenChannelsFirst()
        case Dropout(rate):
            return nnx.Dropout(rate, deterministic=True, rngs=nnx.Rngs(dropout=0))  # build gives it a key of its own
        case Identity():
            return Function("identity")
        case _:
            assert_never(leaf.op)


def _abstract(kind: Callable[..., Layer], *arguments: Any, **named: Any) -> Layer:
    """A module whose weights have a shape and a type, and no values yet."""
    no_keys = SimpleNamespace(
        params=lambda: None
    )  # nnx.Rngs would take two seconds for a resnet152's, which nobody uses
    made: Layer = nnx.eval_shape(lambda: kind(*arguments, **named, rngs=no_keys))
    return made


class BatchNorm2d(nnx.BatchNorm):
    """nnx's own, in two passes; it keeps the unbiased variance, unless asked for the biased, and errors say which layer."""

    def __init__(
        self,
        path: str,
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
            use_fast_variance=False,
            **weights,
        )
        self.path = path
        self.variance = variance

    def __call__(self, x: Array, use_running_average: bool | None = None) -> Array:  # type: ignore[override]
        if self.use_running_average if use_running_average is None else use_running_average:
            return super().__call__(x, True)
        count = x.size // x.shape[-1]
        if count == 1:
            raise ValueError(
                f"{self.path} is given one value a channel, {x.shape}, which has no variance to train with; "
                "it needs a larger batch or larger images"
            )
        if self.variance == "biased":
            return super().__call__(x, False)
        old = self.var[...] * self.momentum
        y = super().__call__(x, False)
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
    gives = MaxPool(pool.kernel, pool.stride, pool.padding, pool.ceil).gives((channels, height, width))
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
