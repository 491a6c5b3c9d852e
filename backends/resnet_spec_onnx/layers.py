"""Translate an operation to ONNX nodes, in inference form.

ONNX stores attributes in float32, and rounds the number of a pooling's windows up by its own rule. So numbers that
float32 cannot hold are initializers, and windows are padded explicitly for the shapes that the core inferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from resnet_spec import ops
from resnet_spec.network.parts import Leaf
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx import custom_layers, free_size
from resnet_spec_onnx.graph import Graph


def add_layer(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add the nodes of an operation that reads x; return its output, which has the operation's path as its name."""
    path = leaf.path
    match leaf.op:
        case ops.Conv() as op:
            return _add_conv(op, leaf, weights, x, graph)
        case ops.StandardizedConv() as op:
            return _add_conv(op.to_conv(), leaf, custom_layers.standardize(op, leaf, weights), x, graph)
        case ops.ChannelConv():
            return custom_layers.add_channel_conv(leaf, weights, x, graph)
        case ops.Linear():
            return custom_layers.add_linear(leaf, weights, x, graph)
        case ops.BatchNorm() as op:
            return _add_batch_norm(op, leaf, weights, x, graph)
        case ops.GroupNorm() as op:
            return custom_layers.add_group_norm(
                op.group_count(leaf.input_shape[0]), op.epsilon, leaf, weights, x, graph
            )
        case ops.LayerNorm(epsilon):
            return custom_layers.add_layer_norm(epsilon, leaf, weights, x, graph)
        case ops.RmsNorm() as op:
            return custom_layers.add_rms_norm(op, leaf, weights, x, graph)
        case ops.GlobalResponseNorm(epsilon):
            return custom_layers.add_global_response_norm(epsilon, leaf, weights, x, graph)
        case ops.EvoNormS0() as op:
            groups = op.group_count(leaf.input_shape[0])
            return custom_layers.add_evo_norm_s0(groups, op.epsilon, leaf, weights, x, graph)
        case ops.FilterResponseNorm(epsilon):
            return custom_layers.add_filter_response_norm(epsilon, leaf, weights, x, graph)
        case ops.Relu():
            return graph.add_node("Relu", [x], path)
        case ops.Relu6():
            return custom_layers.add_relu6(path, x, path, graph)
        case ops.SquaredRelu():
            rectified = graph.add_node("Relu", [x], f"{path}/relu")
            return graph.add_node("Mul", [rectified, rectified], path)
        case ops.Prelu():
            slope_name = graph.add_weight(f"{path}.weight", custom_layers.per_channel(weights["weight"], leaf))
            return graph.add_node("PRelu", [x, slope_name], path)
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
        case ops.MaxPool() as op:
            window = ops.window_of(op)
            x, pads = _add_padding(window, leaf, x, -np.inf, graph)
            attributes = {"kernel_shape": window.kernel, "strides": window.stride, "pads": pads}
            # ONNX Runtime merges zeros padded before a max pool into it, as minus infinity. A second output, even one
            # that nothing reads, prevents that.
            indices = [f"{path}/indices"] if graph.is_output_of("Pad", x) else []
            return graph.add_node("MaxPool", [x], path, *indices, **attributes)
        case ops.AvgPool() as op:
            return _add_avg_pool(op, leaf, x, graph)
        case ops.BlurPool(stride):
            return custom_layers.add_blur_pool(stride, leaf, x, graph)
        case ops.GlobalAvgPool(keepdims):
            return _add_global_pool("GlobalAveragePool", keepdims, path, x, graph)
        case ops.GlobalMaxPool(keepdims):
            return _add_global_pool("GlobalMaxPool", keepdims, path, x, graph)
        case ops.AdaptiveAvgPool(size):
            return custom_layers.add_adaptive_avg_pool(ops.per_axis(size), leaf, x, graph)
        case ops.ChannelAvgPool():
            return custom_layers.add_reduction("ReduceMean", leaf, x, graph)
        case ops.ChannelMaxPool():
            return custom_layers.add_reduction("ReduceMax", leaf, x, graph)
        case ops.ZeroPad(top, bottom, left, right):
            return custom_layers.add_pad(x, (0, top, left, 0, bottom, right), path, graph)
        case ops.PadChannels(before, after):
            return custom_layers.add_pad(x, (before, 0, 0, after, 0, 0), path, graph)
        case ops.SplitSum(parts):
            return custom_layers.add_split_sum(parts, leaf, x, graph)
        case ops.SplitSoftmax(parts, groups):
            return custom_layers.add_split_softmax(parts, groups, leaf, x, graph)
        case ops.SpaceToDepth() as op:
            return custom_layers.add_space_to_depth(op, leaf, x, graph)
        case ops.ChannelShuffle(groups):
            return custom_layers.add_channel_shuffle(groups, leaf, x, graph)
        case ops.Upsample() as op:
            return custom_layers.add_upsample(op, leaf, x, graph)
        case ops.Scale(factor, learned=learned):
            own = custom_layers.per_channel(weights[""], leaf) if learned else np.array(factor, graph.dtype)
            return graph.add_node("Mul", [x, graph.add_weight(f"{path}/factor", own)], path)
        case ops.Shift():
            own = custom_layers.per_channel(weights[""], leaf)
            return graph.add_node("Add", [x, graph.add_weight(f"{path}/summand", own)], path)
        case ops.Flatten():
            return graph.add_node("Flatten", [x], path, axis=1)
        case ops.Dropout() | ops.DropPath() | ops.DropBlock() | ops.Identity():
            return graph.add_node("Identity", [x], path)
        case _:
            assert_never(leaf.op)


def _add_conv(op: ops.Conv, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    window = ops.window_of(op)
    x, pads = _add_padding(window, leaf, x, 0, graph)
    return graph.add_node(
        "Conv",
        [x, *custom_layers.add_weights(leaf, weights, graph)],
        leaf.path,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=pads,
        dilations=window.dilation,
        group=op.groups,
    )


def _add_batch_norm(op: ops.BatchNorm, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    channels, path = leaf.input_shape[0], leaf.path
    names = {name: f"{path}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    for name, full_name in names.items():  # ONNX requires a scale and a shift even where the operation has none
        graph.add_weight(full_name, weights.get(name, np.full(channels, float(name == "weight"), graph.dtype)))
    return graph.add_node("BatchNormalization", [x, *names.values()], path, epsilon=op.epsilon)


def _add_padding(window: ops.Window, leaf: Leaf, x: str, value: float, graph: Graph) -> tuple[str, list[int]]:
    """Return what an operation with windows reads, and its pads: if the size is free, a node may pad instead."""
    if graph.has_free_size and free_size.depends_on_size(window):
        margins = free_size.add_margins(window, x, f"{leaf.path}/padded", graph)
        return free_size.add_pad(x, margins, value, f"{leaf.path}/padded", graph), [0, 0, 0, 0]
    return x, _pads(window, leaf)


def _pads(window: ops.Window, leaf: Leaf) -> list[int]:
    """Return top, left, bottom and right: after the image up to the last window's end, so that nothing is rounded."""
    (top, bottom), (left, right) = window.margins(*leaf.input_shape[1:])
    return [top, left, bottom, right]


def _add_avg_pool(op: ops.AvgPool, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add an average pool. If padding counts, a node pads the image first: what ``ceil`` adds beyond must not count."""
    window = ops.window_of(op)
    if graph.has_free_size and free_size.depends_on_size(window):
        return free_size.add_avg_pool(window, op.count_padding, leaf.path, x, graph)
    pads = _pads(window, leaf)
    padding = _pads(replace(window, ceil=False), leaf)
    if op.count_padding and any(padding):
        top, left, bottom, right = padding
        x = custom_layers.add_pad(x, (0, top, left, 0, bottom, right), f"{leaf.path}/padded", graph)
        pads = [max(0, outer - inner) for outer, inner in zip(pads, padding, strict=True)]
    # ONNX Runtime merges a padding into an average pool without pads, and then refuses one as large as the kernel. It
    # leaves a pool with "VALID" padding, which is none, as it is.
    attributes = {"pads": pads, "count_include_pad": 0} if any(pads) else {"auto_pad": "VALID"}
    return graph.add_node(
        "AveragePool", [x], leaf.path, kernel_shape=window.kernel, strides=window.stride, **attributes
    )


def _add_global_pool(kind: str, keepdims: bool, path: str, x: str, graph: Graph) -> str:
    if keepdims:
        return graph.add_node(kind, [x], path)
    return graph.add_node("Flatten", [graph.add_node(kind, [x], f"{path}/pooled")], path, axis=1)
