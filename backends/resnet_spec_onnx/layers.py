"""An operation to ONNX nodes, in inference form.

ONNX keeps attributes in float32 and has rules of its own for padding and rounding up, so numbers that are not exact in float32 are
initialisers, and windows are padded explicitly, by the shapes that the core worked out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np

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
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import Graph
from resnet_spec_onnx.own import (
    blur_pool,
    channel_conv,
    clipped,
    evo_norm_s0,
    filter_response_norm,
    gelu,
    group_norm,
    hard_sigmoid,
    layer_norm,
    padded,
    split_softmax,
    split_sum,
    standardized,
    weighted,
)


def layer(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add the nodes of a leaf that reads x. The value that it gives is named by its path."""
    path = leaf.path
    match leaf.op:
        case Conv() as op:
            return _conv(op, path, weights, x, graph)
        case StandardizedConv() as op:
            kernels = {"weight": standardized(weights["weight"], op.epsilon)}
            return _conv(op.plain(), path, {**weights, **kernels}, x, graph)
        case ChannelConv():
            return channel_conv(leaf, weights, x, graph)
        case Linear():
            return graph.node("Gemm", [x, *weighted(path, weights, graph)], path, transB=1)
        case BatchNorm() as op:
            return _batch_norm(op, leaf, weights, x, graph)
        case GroupNorm() as op:
            return group_norm(op.count(leaf.input_shape[0]), op.epsilon, leaf, weights, x, graph)
        case LayerNorm(epsilon):
            return layer_norm(epsilon, leaf, weights, x, graph)
        case EvoNormS0(groups, epsilon):
            return evo_norm_s0(groups, epsilon, leaf, weights, x, graph)
        case FilterResponseNorm(epsilon):
            return filter_response_norm(epsilon, leaf, weights, x, graph)
        case Relu():
            return graph.node("Relu", [x], path)
        case Relu6():
            return clipped(x, path, path, graph)
        case LeakyRelu(slope):
            return graph.node("LeakyRelu", [x], path, alpha=slope)
        case Elu():
            return graph.node("Elu", [x], path)
        case Gelu(approximate):
            return gelu(approximate, path, x, graph)
        case Silu():
            return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{path}/sigmoid")], path)
        case Sigmoid():
            return graph.node("Sigmoid", [x], path)
        case Tanh():
            return graph.node("Tanh", [x], path)
        case HardSigmoid():
            return hard_sigmoid(path, x, path, graph)
        case HardSwish():
            return graph.node("Mul", [x, hard_sigmoid(path, x, f"{path}/gate", graph)], path)
        case MaxPool(kernel, stride):
            window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": _pads(leaf.op, leaf)}
            # ONNX Runtime makes zeros padded before a max pool part of it, as minus infinity; not where indices are given too.
            indices = [f"{path}/indices"] if graph.is_from("Pad", x) else []
            return graph.node("MaxPool", [x], path, *indices, **window)
        case AvgPool() as op:
            return _avg_pool(op, leaf, x, graph)
        case BlurPool(stride):
            return blur_pool(stride, leaf, x, graph)
        case GlobalAvgPool(keepdims):
            return _global("GlobalAveragePool", keepdims, path, x, graph)
        case GlobalMaxPool(keepdims):
            return _global("GlobalMaxPool", keepdims, path, x, graph)
        case ZeroPad(top, bottom, left, right):
            return padded(x, (0, top, left, 0, bottom, right), path, graph)
        case PadChannels(before, after):
            return padded(x, (before, 0, 0, after, 0, 0), path, graph)
        case SplitSum(parts):
            return split_sum(parts, leaf, x, graph)
        case SplitSoftmax(parts, groups):
            return split_softmax(parts, groups, leaf, x, graph)
        case Flatten():
            return graph.node("Flatten", [x], path, axis=1)
        case Dropout() | DropPath() | DropBlock() | Identity():
            return graph.node("Identity", [x], path)
        case _:
            assert_never(leaf.op)


def _conv(op: Conv, path: str, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    return graph.node(
        "Conv",
        [x, *weighted(path, weights, graph)],
        path,
        kernel_shape=[op.kernel] * 2,
        strides=[op.stride] * 2,
        pads=[op.padding] * 4,
        dilations=[op.dilation] * 2,
        group=op.groups,
    )


def _batch_norm(op: BatchNorm, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    channels, path = leaf.input_shape[0], leaf.path
    own = {name: f"{path}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    for name, full in own.items():  # a norm without scale and shift has none of its own, but ONNX wants them
        graph.weight(full, weights.get(name, np.full(channels, float(name == "weight"), graph.dtype)))
    return graph.node("BatchNormalization", [x, *own.values()], path, epsilon=op.epsilon)


def _pads(op: MaxPool | AvgPool, leaf: Leaf) -> list[int]:
    """Top, left, bottom, right: after the image as many as the windows reach, so that no rule for rounding up is needed."""
    needs = [(count - 1) * op.stride + op.kernel - op.padding for count in leaf.output_shape[1:]]
    return [op.padding] * 2 + [max(0, need - size) for need, size in zip(needs, leaf.input_shape[1:], strict=True)]


def _avg_pool(op: AvgPool, leaf: Leaf, x: str, graph: Graph) -> str:
    """What ceil adds beyond the padding counts in no case: where padding counts, it is laid around the image first."""
    pads = _pads(op, leaf)
    if op.count_padding and op.padding:
        x = padded(x, (0, op.padding, op.padding, 0, op.padding, op.padding), f"{leaf.path}/padded", graph)
        pads = [0, 0, *(max(0, after - op.padding) for after in pads[2:])]
    window = {"kernel_shape": [op.kernel] * 2, "strides": [op.stride] * 2, "pads": pads, "count_include_pad": 0}
    return graph.node("AveragePool", [x], leaf.path, **window)


def _global(kind: str, keepdims: bool, path: str, x: str, graph: Graph) -> str:
    if keepdims:
        return graph.node(kind, [x], path)
    return graph.node("Flatten", [graph.node(kind, [x], f"{path}/pooled")], path, axis=1)
