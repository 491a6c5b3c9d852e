"""Translate an operation to a layer: Flax's own wherever it computes exactly what the operation defines.

Maps are (batch, height, width, channels). A layer without state is a frozen dataclass. nnx treats it as static, as it
does functions in an nnx.Sequential, so a user can replace it by any function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias, assert_never

import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec import ops
from resnet_spec.network.parts import Leaf
from resnet_spec_flax import custom_layers, emitted_layers

Layer: TypeAlias = Callable[..., Array]

_ZEROS = nnx.initializers.zeros_init()
"""The initializer that is fastest to trace; its values are never computed."""


def make_layer(leaf: Leaf, dtype: str, compute: str | None = None) -> Layer:
    """Return the layer of an operation. Its weights are abstract, since ``fill`` replaces them anyway.

    ``dtype`` is that of its weights. With ``compute``, convolutions and linear layers multiply in that type, and other
    layers return the type of their input.
    """
    native: dict[str, Any] = {"param_dtype": dtype, "dtype": compute and jnp.dtype(compute)}
    norms: Any = custom_layers if compute else nnx
    channels = leaf.input_shape[0]
    match leaf.op:
        case ops.Conv() as op:
            return make_abstract(nnx.Conv, channels, **conv_options(op, dtype) | native)
        case ops.StandardizedConv() as op:
            return make_abstract(
                custom_layers.StandardizedConv2d,
                channels,
                op,
                leaf.input_shape,
                **conv_options(op.to_conv(), dtype) | native,
            )
        case ops.ChannelConv(kernel):
            options: dict[str, Any] = {"padding": kernel // 2, "use_bias": False, "kernel_init": _ZEROS}
            return make_abstract(custom_layers.ChannelConv1d, 1, 1, (kernel,), **options, **native)
        case ops.Linear(out, bias):
            return make_abstract(nnx.Linear, channels, out, use_bias=bias, kernel_init=_ZEROS, **native)
        case ops.BatchNorm(epsilon, decay, variance, affine):
            norm = make_abstract(
                custom_layers.BatchNorm2d, channels, epsilon, decay, variance, affine, param_dtype=dtype
            )
            norm.path = leaf.path
            return norm
        case ops.GroupNorm() as op:
            options = _norm_options(op, dtype)
            return make_abstract(norms.GroupNorm, channels, op.group_count(channels), **options)
        case ops.LayerNorm() as op:
            return make_abstract(norms.LayerNorm, channels, **_norm_options(op, dtype))
        case ops.RmsNorm(epsilon, variance=True):
            return make_abstract(custom_layers.SimpleNorm, channels, epsilon, param_dtype=dtype)
        case ops.RmsNorm(epsilon):
            return make_abstract(norms.RMSNorm, channels, epsilon=epsilon, param_dtype=dtype)
        case ops.GlobalResponseNorm(epsilon):
            return make_abstract(custom_layers.GlobalResponseNorm2d, channels, epsilon, param_dtype=dtype)
        case ops.EvoNormS0() as op:
            groups = op.group_count(channels)
            return make_abstract(custom_layers.EvoNorm2dS0, channels, groups, op.epsilon, op.act, param_dtype=dtype)
        case ops.FilterResponseNorm(epsilon):
            return make_abstract(custom_layers.FilterResponseNorm2d, channels, epsilon, param_dtype=dtype)
        case ops.Relu():
            return custom_layers.Function("relu")
        case ops.Relu6():
            return custom_layers.Function("relu6")
        case ops.SquaredRelu():
            return custom_layers.SquaredReLU()
        case ops.Prelu(_, per):
            return make_abstract(custom_layers.PReLU, channels if per == "channel" else 1, param_dtype=dtype)
        case ops.LeakyRelu(slope):
            return custom_layers.LeakyReLU(slope)
        case ops.Elu():
            return custom_layers.Function("elu")
        case ops.Gelu(approximate):
            return custom_layers.GELU(approximate)
        case ops.Silu():
            return custom_layers.Function("silu")
        case ops.Sigmoid():
            return custom_layers.Function("sigmoid")
        case ops.Tanh():
            return custom_layers.Function("tanh")
        case ops.HardSigmoid():
            return custom_layers.Function("hard_sigmoid")
        case ops.HardSwish():
            return custom_layers.Function("hard_swish")
        case ops.MaxPool() as op:
            return custom_layers.MaxPool2d(ops.window_of(op))
        case ops.AvgPool(count_padding=count_padding) as op:
            return custom_layers.AvgPool2d(ops.window_of(op), count_padding)
        case ops.BlurPool(stride):
            return custom_layers.BlurPool2d(stride)
        case ops.GlobalAvgPool(keepdims):
            return custom_layers.GlobalAvgPool2d(keepdims)
        case ops.GlobalMaxPool(keepdims):
            return custom_layers.GlobalMaxPool2d(keepdims)
        case ops.AdaptiveAvgPool(size):
            return custom_layers.AdaptiveAvgPool2d(ops.per_axis(size))
        case ops.ChannelAvgPool():
            return custom_layers.ChannelAvgPool2d()
        case ops.ChannelMaxPool():
            return custom_layers.ChannelMaxPool2d()
        case ops.ZeroPad(top, bottom, left, right):
            return custom_layers.ZeroPad2d(top, bottom, left, right)
        case ops.PadChannels(before, after):
            return custom_layers.PadChannels2d(before, after)
        case ops.SplitSum(parts):
            return emitted_layers.SplitSum(parts)
        case ops.SplitSoftmax(parts, groups):
            return custom_layers.SplitSoftmax(parts, groups)
        case ops.SpaceToDepth(size, order):
            return emitted_layers.SpaceToDepth(size, order)
        case ops.ChannelShuffle(groups):
            return emitted_layers.ChannelShuffle(groups)
        case ops.Upsample(factor, mode):
            return custom_layers.Upsample(factor, mode)
        case ops.Scale() as op:
            return custom_layers.OwnScale() if op.learned else custom_layers.Scale(op.factor)
        case ops.Shift():
            return custom_layers.OwnShift()
        case ops.Flatten():
            return custom_layers.FlattenChannelsFirst()
        case ops.Dropout(rate):
            # populate() gives each layer a random key of its own.
            return nnx.Dropout(rate, deterministic=True, rngs=nnx.Rngs(dropout=0))
        case ops.DropPath(rate):
            all_but_batch = tuple(range(1, len(leaf.input_shape) + 1))
            return nnx.Dropout(rate, broadcast_dims=all_but_batch, deterministic=True, rngs=nnx.Rngs(dropout=0))
        case ops.DropBlock() as op:
            return custom_layers.DropBlock2d(op)
        case ops.Identity():
            return custom_layers.Function("identity")
        case _:
            assert_never(leaf.op)


def _norm_options(op: ops.GroupNorm | ops.LayerNorm, dtype: str) -> dict[str, Any]:
    return {
        "epsilon": op.epsilon,
        "use_scale": op.affine,
        "use_bias": op.affine and op.bias,
        "use_fast_variance": False,
        "param_dtype": dtype,
    }


def conv_options(op: ops.Conv, dtype: str) -> dict[str, Any]:
    """Return the keyword arguments of nnx.Conv for a convolution."""
    padding = ops.fixed_padding(op)
    return {
        "out_features": op.out,
        "kernel_size": ops.per_axis(op.kernel),
        "strides": op.stride,
        "padding": "SAME" if padding is None else padding,
        "kernel_dilation": op.dilation,
        "feature_group_count": op.groups,
        "use_bias": op.bias,
        "kernel_init": _ZEROS,
        "param_dtype": dtype,
    }


def make_abstract(kind: Callable[..., Layer], *arguments: Any, **options: Any) -> Any:
    """Return a new module whose weights have a shape and a dtype, and no values yet."""
    return nnx.clone(_trace_layer(kind, arguments, tuple(options.items())))


# To trace a layer takes a millisecond, and to copy it a tenth of that; a network has many layers that are alike.
@lru_cache(1024)
def _trace_layer(kind: Callable[..., Layer], arguments: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Layer:
    # Stands in for nnx.Rngs, which takes two seconds for a resnet152 to make keys that nothing uses.
    no_keys = SimpleNamespace(params=lambda: None)
    layer: Layer = nnx.eval_shape(lambda: kind(*arguments, **dict(options), rngs=no_keys))
    return layer
