"""What each operation means. Arrays are (batch, channels, height, width), or (batch, features)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
    drop_block_squares,
)
from resnet_spec.weights.canonical import Array

Statistics = dict[str, Array]


def layer(
    leaf: Leaf, weights: dict[str, Array], x: Array, random: np.random.Generator | None
) -> tuple[Array, Statistics]:
    """An operation's output and, in training (where there is a ``random``), its new running statistics."""
    if isinstance(leaf.op, BatchNorm):
        if random is None:
            return _evaluated_batch_norm(leaf.op, weights, x), {}
        return _batch_norm(leaf.path, leaf.op, weights, x)
    return _apply(leaf, weights, x, random), {}


def _apply(leaf: Leaf, weights: dict[str, Array], x: Array, random: np.random.Generator | None) -> Array:
    match leaf.op:
        case Conv() as op:
            return _conv(op, weights["weight"], weights.get("bias"), x)
        case StandardizedConv() as op:
            flat = weights["weight"].reshape(op.out, -1)
            kernel = _standard(flat, (1,), op.epsilon).reshape(weights["weight"].shape)
            return _conv(op.plain(), kernel, weights.get("bias"), x)
        case ChannelConv(kernel_size):
            around = np.pad(x, ((0, 0), (kernel_size // 2, kernel_size // 2)))
            return sliding_window_view(around, kernel_size, axis=1) @ weights["weight"].reshape(-1)
        case Linear(_, bias):
            y = x @ weights["weight"].T
            return y + weights["bias"] if bias else y
        case GroupNorm() as op:
            grouped = x.reshape(x.shape[0], op.count(x.shape[1]), -1)
            return _affine(_standard(grouped, (2,), op.epsilon).reshape(x.shape), weights)
        case LayerNorm(epsilon):
            return _affine(_standard(x, (1,), epsilon), weights)
        case EvoNormS0(groups, epsilon):
            return _evo_norm_s0(groups, epsilon, weights, x)
        case FilterResponseNorm(epsilon):
            square = (x**2).mean(axis=(2, 3), keepdims=True)
            y = _affine(x / np.sqrt(square + x.dtype.type(epsilon)), weights)
            return np.maximum(y, weights["tau"][:, None, None])
        case BatchNorm():
            raise AssertionError("batch normalisation has statistics too")
        case Relu():
            return np.maximum(x, 0)
        case Relu6():
            return np.clip(x, 0, 6)
        case LeakyRelu(slope):
            return np.where(x > 0, x, x * x.dtype.type(slope))
        case Elu():
            return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        case Gelu(approximate):
            return _gelu_tanh(x) if approximate else _gelu(x)
        case Silu():
            return x * _sigmoid(x)
        case Sigmoid():
            return _sigmoid(x)
        case Tanh():
            return np.tanh(x)
        case HardSigmoid():
            return np.clip(x + 3, 0, 6) / 6
        case HardSwish():
            return x * (np.clip(x + 3, 0, 6) / 6)
        case MaxPool() as op:
            return _pool_windows(op, x, -np.inf).max(axis=(4, 5))
        case AvgPool() as op:
            return _avg_pool(op, x)
        case BlurPool(stride):
            return _blur_pool(stride, x)
        case GlobalAvgPool(keepdims):
            return x.mean(axis=(2, 3), keepdims=keepdims)
        case GlobalMaxPool(keepdims):
            return x.max(axis=(2, 3), keepdims=keepdims)
        case ZeroPad(top, bottom, left, right):
            return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        case PadChannels(before, after):
            return np.pad(x, ((0, 0), (before, after), (0, 0), (0, 0)))
        case SplitSum(parts):
            return x.reshape(x.shape[0], parts, -1, *x.shape[2:]).sum(axis=1)
        case SplitSoftmax(parts, groups):
            return _split_softmax(parts, groups, x)
        case Flatten():
            return x.reshape(x.shape[0], -1)
        case Dropout(rate):
            return x if random is None else x * (random.random(x.shape) >= rate) / x.dtype.type(1 - rate)
        case DropPath(rate):
            kept = None if random is None else random.random((x.shape[0], *[1] * (x.ndim - 1))) >= rate
            return x if kept is None else x * kept / x.dtype.type(1 - rate)
        case DropBlock() as op:
            return x if random is None or op.rate == 0 else _drop_block(op, x, random)
        case Identity():
            return x
        case _:
            assert_never(leaf.op)


def _conv(op: Conv, weight: Array, bias: Array | None, x: Array) -> Array:
    """A matrix product for each group: (out, in * kernel^2) times (in * kernel^2, height * width)."""
    batch = x.shape[0]
    reach = op.dilation * (op.kernel - 1) + 1
    padded = np.pad(x, ((0, 0), (0, 0), (op.padding, op.padding), (op.padding, op.padding)))
    windows = sliding_window_view(padded, (reach, reach), axis=(2, 3))
    windows = windows[:, :, :: op.stride, :: op.stride, :: op.dilation, :: op.dilation]
    height, width = windows.shape[2:4]
    # (batch, in, height, width, kernel, kernel) -> (batch, groups, in / groups * kernel^2, height * width)
    columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(batch, op.groups, -1, height * width)
    rows = weight.reshape(op.groups, op.out // op.groups, -1)
    y = (rows @ columns).reshape(batch, op.out, height, width)
    return y if bias is None else y + bias[:, None, None]


def _evaluated_batch_norm(op: BatchNorm, weights: dict[str, Array], x: Array) -> Array:
    mean, var = weights["running_mean"], weights["running_var"]
    scale = 1 / np.sqrt(var + var.dtype.type(op.epsilon))
    return _affine((x - mean[:, None, None]) * scale[:, None, None], weights)


def _batch_norm(path: str, op: BatchNorm, weights: dict[str, Array], x: Array) -> tuple[Array, Statistics]:
    count = x.size // x.shape[1]
    if count == 1:
        raise ValueError(
            f"{path} is given one value a channel, {x.shape}, which has no variance to train with; "
            "it needs a larger batch or larger images"
        )
    axes = (0, 2, 3)
    var = x.var(axis=axes) * (count / (count - 1) if op.variance == "unbiased" else 1)
    decay = x.dtype.type(op.decay)
    statistics = {
        "running_mean": weights["running_mean"] * decay + x.mean(axis=axes) * (1 - decay),
        "running_var": (weights["running_var"] * decay + var * (1 - decay)).astype(x.dtype),
    }
    return _affine(_standard(x, axes, op.epsilon), weights), statistics


def _standard(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """x less its mean, over its standard deviation."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + x.dtype.type(epsilon))


def _affine(x: Array, weights: dict[str, Array]) -> Array:
    """x times a scale plus a shift for each channel, where there are any."""
    if "weight" not in weights:
        return x
    shape = (-1, *[1] * (x.ndim - 2))
    return x * weights["weight"].reshape(shape) + weights["bias"].reshape(shape)


def _evo_norm_s0(groups: int, epsilon: float, weights: dict[str, Array], x: Array) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1)
    spread = np.sqrt(grouped.var(axis=2) + x.dtype.type(epsilon))  # (batch, groups)
    y = (x * _sigmoid(x * weights["v"][:, None, None])).reshape(grouped.shape) / spread[:, :, None]
    return _affine(y.reshape(x.shape), weights)


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1, small) / (1 + small)


_ERF: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: Array) -> Array:
    return x * ((1 + _ERF(x * math.sqrt(0.5))) / 2).astype(x.dtype)


def _gelu_tanh(x: Array) -> Array:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def _pool_windows(op: MaxPool | AvgPool, x: Array, fill: float) -> Array:
    """Every window of a pooling: (batch, channels, height, width, kernel, kernel); ``fill`` stands where there is no pixel."""
    height, width = op.output_shape(x.shape[1:])[1:]
    needs = [(count - 1) * op.stride + op.kernel - op.padding for count in (height, width)]
    after = [max(0, need - size) for need, size in zip(needs, x.shape[2:], strict=True)]
    padded = np.pad(x, ((0, 0), (0, 0), (op.padding, after[0]), (op.padding, after[1])), constant_values=fill)
    windows = sliding_window_view(padded, (op.kernel, op.kernel), axis=(2, 3))[:, :, :: op.stride, :: op.stride]
    return windows[:, :, :height, :width]


def _blur_pool(stride: int, x: Array) -> Array:
    around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = sliding_window_view(around, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    line = np.array([1, 2, 1], x.dtype) / 4
    return windows @ line @ line


def _split_softmax(parts: int, groups: int, x: Array) -> Array:
    # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
    split = x.reshape(x.shape[0], groups, parts, -1).swapaxes(1, 2)
    powers = np.exp(split - split.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).reshape(x.shape)


def _drop_block(op: DropBlock, x: Array, random: np.random.Generator) -> Array:
    batch, _, height, width = x.shape
    tall, wide, probability = drop_block_squares(op.rate, op.size, op.scale, height, width)
    middles = random.random((batch, 1, height, width)) < probability
    # A square reaches further up and left of its middle than down and right, where its size is even.
    reach = ((0, 0), (0, 0), ((tall - 1) // 2, tall // 2), ((wide - 1) // 2, wide // 2))
    kept = ~sliding_window_view(np.pad(middles, reach), (tall, wide), axis=(2, 3)).any(axis=(4, 5))
    return x * kept * x.dtype.type(kept.size / (kept.sum() + 1e-7))


def _avg_pool(op: AvgPool, x: Array) -> Array:
    """The sum over each window, divided by how many pixels count in it: the image's own, or the padding's too."""
    pixels = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if not op.count_padding:
        counts = _pool_windows(op, pixels, 0).sum(axis=(4, 5))
    else:  # what ceil adds beyond the padding counts in no case
        around = ((0, 0), (0, 0), (op.padding, op.padding), (op.padding, op.padding))
        framed = AvgPool(op.kernel, op.stride, ceil=op.ceil)
        counts = _pool_windows(framed, np.pad(pixels, around, constant_values=1), 0).sum(axis=(4, 5))
        height, width = op.output_shape(x.shape[1:])[1:]
        counts = counts[:, :, :height, :width]
    return _pool_windows(op, x, 0).sum(axis=(4, 5)) / counts
