"""Translate an operation to ONNX nodes, in inference form.

ONNX stores attributes in float32, and rounds the number of a pooling's windows up by its own rule. So numbers that
float32 cannot hold are initializers, and windows are padded explicitly for the shapes that the core inferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np

from resnet_spec import ops
from resnet_spec.network.parts import Leaf
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx import custom_layers
from resnet_spec_onnx.graph import Graph


def add_layer(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add the nodes of an operation that reads x; return its output, which has the operation's path as its name."""
    path = leaf.path
    match leaf.op:
        case ops.Conv() as op:
            return _add_conv(op, path, weights, x, graph)
        case ops.StandardizedConv() as op:
            kernels = {"weight": custom_layers.standardize(weights["weight"], op.epsilon)}
            return _add_conv(op.to_conv(), path, {**weights, **kernels}, x, graph)
        case ops.ChannelConv():
            return custom_layers.add_channel_conv(leaf, weights, x, graph)
        case ops.Linear():
            return graph.add_node("Gemm", [x, *custom_layers.add_weights(path, weights, graph)], path, transB=1)
        case ops.BatchNorm() as op:
            return _add_batch_norm(op, leaf, weights, x, graph)
        case ops.GroupNorm() as op:
            return custom_layers.add_group_norm(
                op.group_count(leaf.input_shape[0]), op.epsilon, leaf, weights, x, graph
            )
        case ops.LayerNorm(epsilon):
            return custom_layers.add_layer_norm(epsilon, leaf, weights, x, graph)
        case ops.EvoNormS0(groups, epsilon):
            return custom_layers.add_evo_norm_s0(groups, epsilon, leaf, weights, x, graph)
        case ops.FilterResponseNorm(epsilon):
            return custom_layers.add_filter_response_norm(epsilon, leaf, weights, x, graph)
        case ops.Relu():
            return graph.add_node("Relu", [x], path)
        case ops.Relu6():
            return custom_layers.add_relu6(path, x, path, graph)
        case ops.LeakyRelu(slope):
            return graph.add_node("LeakyRelu", [x], path, alpha=slope)
        case ops.Elu():
            return graph.add_node("Elu", [x], path)
        case ops.Gelu(approximate):
            return custom_layers.add_gelu(approximate, path, x, graph)
        case ops.Silu():
            return graph.add_node("Mul", [x, graph.add_node("Sigmoid", [x], f"{path}/sigmoid")], path)
        case ops.Sigmoid():
            return graph.add_node("Sigmoid", [x], path)
        case ops.Tanh():
            return graph.add_node("Tanh", [x], path)
        case ops.HardSigmoid():
            return custom_layers.add_hard_sigmoid(path, x, path, graph)
        case ops.HardSwish():
            return graph.add_node("Mul", [x, custom_layers.add_hard_sigmoid(path, x, f"{path}/gate", graph)], path)
        case ops.MaxPool(kernel, stride):
            window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": _pads(leaf.op, leaf)}
            # ONNX Runtime merges zeros padded before a max pool into it, as minus infinity. A second output, even one
            # that nothing reads, prevents that.
            indices = [f"{path}/indices"] if graph.is_output_of("Pad", x) else []
            return graph.add_node("MaxPool", [x], path, *indices, **window)
        case ops.AvgPool() as op:
            return _add_avg_pool(op, leaf, x, graph)
        case ops.BlurPool(stride):
            return custom_layers.add_blur_pool(stride, leaf, x, graph)
        case ops.GlobalAvgPool(keepdims):
            return _add_global_pool("GlobalAveragePool", keepdims, path, x, graph)
        case ops.GlobalMaxPool(keepdims):
            return _add_global_pool("GlobalMaxPool", keepdims, path, x, graph)
        case ops.ZeroPad(top, bottom, left, right):
            return custom_layers.add_pad(x, (0, top, left, 0, bottom, right), path, graph)
        case ops.PadChannels(before, after):
            return custom_layers.add_pad(x, (before, 0, 0, after, 0, 0), path, graph)
        case ops.SplitSum(parts):
            return custom_layers.add_split_sum(parts, leaf, x, graph)
        case ops.SplitSoftmax(parts, groups):
            return custom_layers.add_split_softmax(parts, groups, leaf, x, graph)
        case ops.Flatten():
            return graph.add_node("Flatten", [x], path, axis=1)
        case ops.Dropout() | ops.DropPath() | ops.DropBlock() | ops.Identity():
            return graph.add_node("Identity", [x], path)
        case _:
            assert_never(leaf.op)


def _add_conv(op: ops.Conv, path: str, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    return graph.add_node(
        "Conv",
        [x, *custom_layers.add_weights(path, weights, graph)],
        path,
        kernel_shape=[op.kernel] * 2,
        strides=[op.stride] * 2,
        pads=[op.padding] * 4,
        dilations=[op.dilation] * 2,
        group=op.groups,
    )


def _add_batch_norm(op: ops.BatchNorm, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    channels, path = leaf.input_shape[0], leaf.path
    names = {name: f"{path}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    for name, full_name in names.items():  # ONNX requires a scale and a shift even where the operation has none
        graph.add_weight(full_name, weights.get(name, np.full(channels, float(name == "weight"), graph.dtype)))
    return graph.add_node("BatchNormalization", [x, *names.values()], path, epsilon=op.epsilon)


def _pads(op: ops.MaxPool | ops.AvgPool, leaf: Leaf) -> list[int]:
    """Return top, left, bottom and right: after the image up to the last window's end, so that nothing is rounded."""
    ends = [(count - 1) * op.stride + op.kernel - op.padding for count in leaf.output_shape[1:]]
    return [op.padding] * 2 + [max(0, end - size) for end, size in zip(ends, leaf.input_shape[1:], strict=True)]


def _add_avg_pool(op: ops.AvgPool, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add an average pool. If padding counts, a node pads the image first: what ``ceil`` adds beyond must not count."""
    pads = _pads(op, leaf)
    if op.count_padding and op.padding:
        x = custom_layers.add_pad(
            x, (0, op.padding, op.padding, 0, op.padding, op.padding), f"{leaf.path}/padded", graph
        )
        pads = [0, 0, *(max(0, after - op.padding) for after in pads[2:])]
    # ONNX Runtime merges a padding into an average pool without pads, and then refuses one as large as the kernel. It
    # leaves a pool with "VALID" padding, which is none, as it is.
    padding = {"pads": pads, "count_include_pad": 0} if any(pads) else {"auto_pad": "VALID"}
    return graph.add_node(
        "AveragePool", [x], leaf.path, kernel_shape=[op.kernel] * 2, strides=[op.stride] * 2, **padding
    )


def _add_global_pool(kind: str, keepdims: bool, path: str, x: str, graph: Graph) -> str:
    if keepdims:
        return graph.add_node(kind, [x], path)
    return graph.add_node("Flatten", [graph.add_node(kind, [x], f"{path}/pooled")], path, axis=1)
