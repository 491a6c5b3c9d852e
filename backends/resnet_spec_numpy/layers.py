"""The definition of each operation. Arrays are (batch, channels, height, width), or (batch, features)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from resnet_spec import ops
from resnet_spec.network.parts import Leaf
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy import arithmetic

Statistics = dict[str, Array]


def run_layer(
    leaf: Leaf, weights: dict[str, Array], x: Array, random: np.random.Generator | None
) -> tuple[Array, Statistics]:
    """Return an operation's output and, in training, its new running statistics. ``random`` is None in evaluation."""
    if isinstance(leaf.op, ops.BatchNorm):
        if random is None:
            return _evaluate_batch_norm(leaf.op, weights, x), {}
        return _train_batch_norm(leaf.path, leaf.op, weights, x)
    return _apply(leaf, weights, x, random), {}


def _apply(leaf: Leaf, weights: dict[str, Array], x: Array, random: np.random.Generator | None) -> Array:
    match leaf.op:
        case ops.Conv() as op:
            return _conv(op, weights["weight"], weights.get("bias"), x)
        case ops.StandardizedConv() as op:
            flat = weights["weight"].reshape(op.out, -1)
            kernel = _standardize(flat, (1,), op.epsilon).reshape(weights["weight"].shape)
            if op.scaled:
                kernel = kernel * (weights["gain"] * x.dtype.type(op.fan_in_factor(leaf.input_shape)))
            return _conv(op.to_conv(), kernel, weights.get("bias"), x)
        case ops.ChannelConv(kernel_size):
            padded = np.pad(x, ((0, 0), (kernel_size // 2, kernel_size // 2)))
            return arithmetic.matmul(sliding_window_view(padded, kernel_size, axis=1), weights["weight"].reshape(-1))
        case ops.Linear(_, bias):
            y = np.moveaxis(arithmetic.matmul(np.moveaxis(x, 1, -1), weights["weight"].T), -1, 1)
            return y + _per_channel(weights["bias"], x) if bias else y
        case ops.GroupNorm() as op:
            grouped = x.reshape(x.shape[0], op.group_count(x.shape[1]), -1)
            return _affine(_standardize(grouped, (2,), op.epsilon).reshape(x.shape), weights)
        case ops.LayerNorm(epsilon):
            return _affine(_standardize(x, (1,), epsilon), weights)
        case ops.RmsNorm(epsilon, variance=variance):
            square = x.var(axis=1, ddof=1, keepdims=True) if variance else (x**2).mean(axis=1, keepdims=True)
            return _affine(x / np.sqrt(square + x.dtype.type(epsilon)), weights)
        case ops.GlobalResponseNorm(epsilon):
            norm = np.sqrt((x**2).sum(axis=(2, 3), keepdims=True))
            return x + _affine(x * (norm / (norm.mean(axis=1, keepdims=True) + x.dtype.type(epsilon))), weights)
        case ops.EvoNormS0() as op:
            return _evo_norm_s0(op.group_count(x.shape[1]), op.epsilon, weights, x)
        case ops.FilterResponseNorm(epsilon):
            mean_square = (x**2).mean(axis=(2, 3), keepdims=True)
            y = _affine(x / np.sqrt(mean_square + x.dtype.type(epsilon)), weights)
            return np.maximum(y, weights["tau"][:, None, None])
        case ops.BatchNorm():
            raise AssertionError("run_layer handles batch normalisation, since it returns statistics too")
        case ops.Relu():
            return np.maximum(x, 0)
        case ops.Relu6():
            return np.clip(x, 0, 6)
        case ops.SquaredRelu():
            return np.maximum(x, 0) ** 2
        case ops.Prelu():
            return np.where(x > 0, x, x * _per_channel(weights["weight"], x))
        case ops.LeakyRelu(slope):
            return np.where(x > 0, x, x * x.dtype.type(slope))
        case ops.Elu():
            return np.where(x > 0, x, arithmetic.expm1(np.minimum(x, 0)))
        case ops.Gelu(approximate):
            return _gelu_tanh(x) if approximate else _gelu(x)
        case ops.Silu():
            return x * _sigmoid(x)
        case ops.Sigmoid():
            return _sigmoid(x)
        case ops.Tanh():
            return arithmetic.tanh(x)
        case ops.HardSigmoid():
            return np.clip(x + 3, 0, 6) / 6
        case ops.HardSwish():
            return x * (np.clip(x + 3, 0, 6) / 6)
        case ops.MaxPool() as op:
            return _max_pool(op, x)
        case ops.AvgPool() as op:
            return _avg_pool(op, x)
        case ops.BlurPool(stride):
            return _blur_pool(stride, x)
        case ops.GlobalAvgPool(keepdims):
            return x.mean(axis=(2, 3), keepdims=keepdims)
        case ops.GlobalMaxPool(keepdims):
            return x.max(axis=(2, 3), keepdims=keepdims)
        case ops.AdaptiveAvgPool(size):
            return _adaptive_avg_pool(ops.per_axis(size), x)
        case ops.ChannelAvgPool():
            return x.mean(axis=1, keepdims=True)
        case ops.ChannelMaxPool():
            return x.max(axis=1, keepdims=True)
        case ops.ZeroPad(top, bottom, left, right):
            return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        case ops.PadChannels(before, after):
            return np.pad(x, ((0, 0), (before, after), (0, 0), (0, 0)))
        case ops.SplitSum(parts):
            return x.reshape(x.shape[0], parts, -1, *x.shape[2:]).sum(axis=1)
        case ops.SplitSoftmax(parts, groups):
            return _split_softmax(parts, groups, x)
        case ops.SpaceToDepth() as op:
            return _space_to_depth(op, x)
        case ops.ChannelShuffle(groups):
            return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)
        case ops.Upsample(factor, mode):
            return _upsample(factor, mode, x)
        case ops.Scale(factor, learned=learned):
            return x * (_per_channel(weights[""], x) if learned else x.dtype.type(factor))
        case ops.Shift():
            return x + _per_channel(weights[""], x)
        case ops.Flatten():
            return x.reshape(x.shape[0], -1)
        case ops.Dropout(rate):
            return x if random is None else x * (random.random(x.shape) >= rate) / x.dtype.type(1 - rate)
        case ops.DropPath(rate):
            kept = None if random is None else random.random((x.shape[0], *[1] * (x.ndim - 1))) >= rate
            return x if kept is None else x * kept / x.dtype.type(1 - rate)
        case ops.DropBlock() as op:
            return x if random is None or op.rate == 0 else _drop_block(op, x, random)
        case ops.Identity():
            return x
        case _:
            assert_never(leaf.op)


def _conv(op: ops.Conv, weight: Array, bias: Array | None, x: Array) -> Array:
    """Convolve by one matrix product for each group: (out, in * kernel) @ (in * kernel, height * width)."""
    batch, window = x.shape[0], ops.window_of(op)
    windows = _slide(window, np.pad(x, ((0, 0), (0, 0), *window.margins(*x.shape[2:]))), *x.shape[2:])
    height, width = windows.shape[2:4]
    # (batch, in, height, width, kernel, kernel) -> (batch, groups, in / groups * kernel, height * width)
    columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(batch, op.groups, -1, height * width)
    rows = weight.reshape(op.groups, op.out // op.groups, -1)
    y = arithmetic.matmul(rows, columns).reshape(batch, op.out, height, width)
    return y if bias is None else y + bias[:, None, None]


def _evaluate_batch_norm(op: ops.BatchNorm, weights: dict[str, Array], x: Array) -> Array:
    mean, var = weights["running_mean"], weights["running_var"]
    scale = 1 / np.sqrt(var + var.dtype.type(op.epsilon))
    return _affine((x - mean[:, None, None]) * scale[:, None, None], weights)


def _train_batch_norm(path: str, op: ops.BatchNorm, weights: dict[str, Array], x: Array) -> tuple[Array, Statistics]:
    count = x.size // x.shape[1]
    if count == 1:
        raise ValueError(
            f"{path} needs more than one value per channel in training, but its input has shape "
            f"{x.shape}; use a larger batch or larger images"
        )
    axes = (0, 2, 3)
    var = x.var(axis=axes) * (count / (count - 1) if op.variance == "unbiased" else 1)
    decay = x.dtype.type(op.decay)
    statistics = {
        "running_mean": weights["running_mean"] * decay + x.mean(axis=axes) * (1 - decay),
        "running_var": (weights["running_var"] * decay + var * (1 - decay)).astype(x.dtype),
    }
    return _affine(_standardize(x, axes, op.epsilon), weights), statistics


def _standardize(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Shift and scale x to mean 0 and variance 1 over the axes."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + x.dtype.type(epsilon))


def _affine(x: Array, weights: dict[str, Array]) -> Array:
    """Scale and shift each channel by those of the weights that there are."""
    if "weight" in weights:
        x = x * _per_channel(weights["weight"], x)
    return x + _per_channel(weights["bias"], x) if "bias" in weights else x


def _per_channel(weight: Array, x: Array) -> Array:
    """Return a weight with one number per channel, or one for all, in a shape that broadcasts against x."""
    return weight.reshape(-1, *[1] * (x.ndim - 2))


def _evo_norm_s0(groups: int, epsilon: float, weights: dict[str, Array], x: Array) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1)
    std = np.sqrt(grouped.var(axis=2) + x.dtype.type(epsilon))  # (batch, groups)
    gated = x * _sigmoid(x * weights["v"][:, None, None]) if "v" in weights else x
    y = gated.reshape(grouped.shape) / std[:, :, None]
    return _affine(y.reshape(x.shape), weights)


def _sigmoid(x: Array) -> Array:
    decay = arithmetic.exp(-np.abs(x))  # at most 1, so it does not overflow
    return np.where(x >= 0, 1, decay) / (1 + decay)


def _gelu(x: Array) -> Array:
    return x * ((1 + arithmetic.erf(x * math.sqrt(0.5))) / 2).astype(x.dtype)


def _gelu_tanh(x: Array) -> Array:
    return x * (1 + arithmetic.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))) / 2


def _max_pool(op: ops.MaxPool, x: Array) -> Array:
    window = ops.window_of(op)
    padded = np.pad(x, ((0, 0), (0, 0), *window.margins(*x.shape[2:])), constant_values=-np.inf)
    return _slide(window, padded, *x.shape[2:]).max(axis=(4, 5))


def _slide(window: ops.Window, padded: Array, height: int, width: int) -> Array:
    """Return the windows of a padded map: (batch, channels, rows, columns, kernel height, kernel width).

    ``height`` and ``width`` are those of the map without its padding.
    """
    (down, right), (row, column) = window.stride, window.dilation
    windows = sliding_window_view(padded, window.extent, axis=(2, 3))[:, :, ::down, ::right, ::row, ::column]
    rows, columns = window.counts(height, width)
    return windows[:, :, :rows, :columns]


def _blur_pool(stride: int, x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    row = np.array([1, 2, 1], x.dtype) / 4
    return arithmetic.matmul(arithmetic.matmul(windows, row), row)


def _split_softmax(parts: int, groups: int, x: Array) -> Array:
    # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
    split = x.reshape(x.shape[0], groups, parts, -1).swapaxes(1, 2)
    exponentials = arithmetic.exp(split - split.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).reshape(x.shape)


def _drop_block(op: ops.DropBlock, x: Array, random: np.random.Generator) -> Array:
    batch, _, height, width = x.shape
    square_height, square_width, probability = ops.drop_block_squares(op.rate, op.size, op.scale, height, width)
    centres = random.random((batch, 1, height, width)) < probability
    # A pixel is dropped if a square that covers it has its centre there. A square of even size has one more row above
    # its centre than below, and one more column to the left.
    margins = [((size - 1) // 2, size // 2) for size in (square_height, square_width)]
    padded = np.pad(centres, ((0, 0), (0, 0), *margins))
    kept = ~sliding_window_view(padded, (square_height, square_width), axis=(2, 3)).any(axis=(4, 5))
    return x * kept * x.dtype.type(kept.size / (kept.sum() + 1e-7))


def _avg_pool(op: ops.AvgPool, x: Array) -> Array:
    """Divide the sum over each window by the number of pixels that count: those of the image, or of the padding too."""
    window = ops.window_of(op)
    margins = window.margins(*x.shape[2:])
    padding = replace(window, ceil=False).margins(*x.shape[2:]) if op.count_padding else ((0, 0), (0, 0))
    counted = [(before, min(after, end)) for (before, after), (_, end) in zip(padding, margins, strict=True)]
    rest = [(start - before, end - after) for (start, end), (before, after) in zip(margins, counted, strict=True)]
    pixels = np.pad(
        np.pad(np.ones((1, 1, *x.shape[2:]), x.dtype), ((0, 0), (0, 0), *counted), constant_values=1),
        ((0, 0), (0, 0), *rest),
    )
    sums = _slide(window, np.pad(x, ((0, 0), (0, 0), *margins)), *x.shape[2:]).sum(axis=(4, 5))
    return sums / _slide(window, pixels, *x.shape[2:]).sum(axis=(4, 5))


def _adaptive_avg_pool(size: ops.Pair, x: Array) -> Array:
    for axis, count in enumerate(size, 2):
        starts = [index * x.shape[axis] // count for index in range(count)]
        ends = [-(-(index + 1) * x.shape[axis] // count) for index in range(count)]
        means = [x.take(range(start, end), axis).mean(axis) for start, end in zip(starts, ends, strict=True)]
        x = np.stack(means, axis)
    return x


def _space_to_depth(op: ops.SpaceToDepth, x: Array) -> Array:
    batch, channels, height, width = x.shape
    # The axes are batch, channel, tile's row, row in the tile, tile's column, column in the tile.
    tiles = x.reshape(batch, channels, height // op.size, op.size, width // op.size, op.size)
    order = [{"channel": 1, "row": 3, "column": 5}[name] for name in op.order.split("_")]
    return tiles.transpose(0, *order, 2, 4).reshape(batch, -1, height // op.size, width // op.size)


def _upsample(factor: int, mode: str, x: Array) -> Array:
    if mode == "nearest":
        return x.repeat(factor, axis=2).repeat(factor, axis=3)
    for axis in (2, 3):
        size = x.shape[axis]
        centres = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        below = np.floor(centres).astype(int)
        above, shape = np.minimum(below + 1, size - 1), [1] * axis + [-1] + [1] * (3 - axis)
        weight = (centres - below).astype(x.dtype).reshape(shape)
        x = x.take(below, axis) * (1 - weight) + x.take(above, axis) * weight
    return x
