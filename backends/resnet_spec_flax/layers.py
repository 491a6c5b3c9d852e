"""An operation to a native layer: Flax's own wherever it computes exactly what the operation says.

Maps are (batch, height, width, channels) here. What keeps no state is a frozen dataclass, static to nnx as the functions in an
nnx.Sequential are: a user can put any function in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias, assert_never

from flax import nnx
from jax import Array

from resnet_spec.network.parts import Leaf
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    BlurPool,
    ChannelConv,
    Conv,
    DropBlock,
    Dropout,
    DropPath,
    Elu,
    EvoNormS0,
    FilterResponseNorm,
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
    PadChannels,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    SplitSoftmax,
    SplitSum,
    StandardizedConv,
    Tanh,
    ZeroPad,
)
from resnet_spec_flax import own

Layer: TypeAlias = Callable[[Array], Array]

_ZEROS = nnx.initializers.zeros_init()  # the cheapest to trace


def layer(leaf: Leaf, dtype: str) -> Layer:
    """The layer of a leaf. Weights are abstract, a shape and a type: none is drawn here only to be replaced."""
    channels = leaf.input_shape[0]
    match leaf.op:
        case Conv() as op:
            return abstract(nnx.Conv, channels, **convolution(op, dtype))
        case StandardizedConv() as op:
            return abstract(own.StandardizedConv2d, channels, op, **convolution(op.plain(), dtype))
        case ChannelConv(kernel):
            named: dict[str, Any] = {
                "padding": kernel // 2,
                "use_bias": False,
                "kernel_init": _ZEROS,
                "param_dtype": dtype,
            }
            return abstract(own.ChannelConv1d, 1, 1, (kernel,), **named)
        case Linear(out, bias):
            return abstract(nnx.Linear, channels, out, use_bias=bias, kernel_init=_ZEROS, param_dtype=dtype)
        case BatchNorm(epsilon, decay, variance, affine):
            norm = abstract(own.BatchNorm2d, channels, epsilon, decay, variance, affine, param_dtype=dtype)
            norm.path = leaf.path
            return norm
        case GroupNorm() as op:
            named = {"epsilon": op.epsilon, "use_fast_variance": False, "param_dtype": dtype}
            return abstract(nnx.GroupNorm, channels, op.count(channels), **named)
        case LayerNorm(epsilon):
            return abstract(nnx.LayerNorm, channels, epsilon=epsilon, use_fast_variance=False, param_dtype=dtype)
        case EvoNormS0(groups, epsilon):
            return abstract(own.EvoNorm2dS0, channels, groups, epsilon, param_dtype=dtype)
        case FilterResponseNorm(epsilon):
            return abstract(own.FilterResponseNorm2d, channels, epsilon, param_dtype=dtype)
        case Relu():
            return own.Function("relu")
        case Relu6():
            return own.Function("relu6")
        case LeakyRelu(slope):
            return own.LeakyReLU(slope)
        case Elu():
            return own.Function("elu")
        case Gelu(approximate):
            return own.GELU(approximate)
        case Silu():
            return own.Function("silu")
        case Sigmoid():
            return own.Function("sigmoid")
        case Tanh():
            return own.Function("tanh")
        case HardSigmoid():
            return own.Function("hard_sigmoid")
        case HardSwish():
            return own.Function("hard_swish")
        case MaxPool(kernel, stride, padding, ceil):
            return own.MaxPool2d(kernel, stride, padding, ceil)
        case AvgPool(kernel, stride, padding, ceil, count_padding):
            return own.AvgPool2d(kernel, stride, padding, ceil, count_padding)
        case BlurPool(stride):
            return own.BlurPool2d(stride)
        case GlobalAvgPool(keepdims):
            return own.GlobalAvgPool2d(keepdims)
        case GlobalMaxPool(keepdims):
            return own.GlobalMaxPool2d(keepdims)
        case ZeroPad(top, bottom, left, right):
            return own.ZeroPad2d(top, bottom, left, right)
        case PadChannels(before, after):
            return own.PadChannels2d(before, after)
        case SplitSum(parts):
            return own.SplitSum(parts)
        case SplitSoftmax(parts, groups):
            return own.SplitSoftmax(parts, groups)
        case Flatten():
            return own.FlattenChannelsFirst()
        case Dropout(rate):
            return nnx.Dropout(rate, deterministic=True, rngs=nnx.Rngs(dropout=0))  # build gives it a key of its own
        case DropPath(rate):
            whole = tuple(range(1, len(leaf.input_shape) + 1))
            return nnx.Dropout(rate, broadcast_dims=whole, deterministic=True, rngs=nnx.Rngs(dropout=0))
        case DropBlock() as op:
            return own.DropBlock2d(op)
        case Identity():
            return own.Function("identity")
        case _:
            assert_never(leaf.op)


def convolution(op: Conv, dtype: str) -> dict[str, Any]:
    """What nnx.Conv is told of a convolution."""
    return {
        "out_features": op.out,
        "kernel_size": (op.kernel, op.kernel),
        "strides": op.stride,
        "padding": op.padding,
        "kernel_dilation": op.dilation,
        "feature_group_count": op.groups,
        "use_bias": op.bias,
        "kernel_init": _ZEROS,
        "param_dtype": dtype,
    }


def abstract(kind: Callable[..., Layer], *arguments: Any, **named: Any) -> Any:
    """A module whose weights have a shape and a type, and no values yet."""
    return nnx.clone(_traced(kind, arguments, tuple(named.items())))


@lru_cache(1024)
def _traced(kind: Callable[..., Layer], arguments: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Layer:
    """The first of its kind: to trace one takes a millisecond, to copy it a tenth of that, and a network has many that are alike."""
    no_keys = SimpleNamespace(
        params=lambda: None
    )  # nnx.Rngs would take two seconds for a resnet152's, which nobody uses
    made: Layer = nnx.eval_shape(lambda: kind(*arguments, **dict(named), rngs=no_keys))
    return made
