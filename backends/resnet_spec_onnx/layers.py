"""An operation to ONNX nodes, in inference form.

ONNX keeps attributes in float32 and has rules of its own for padding and rounding up, so numbers that are not exact in float32 are
initialisers, and windows are padded explicitly, by the shapes that the core worked out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import assert_never

import numpy as np

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
from resnet_spec.weights import Array
from resnet_spec_onnx.graph import Graph


def layer(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add the nodes of a leaf that reads x. The value that it gives is named by its path."""
    path = leaf.path
    match leaf.op:
        case Conv() as op:
            return _conv(op, path, weights, x, graph)
        case Linear():
            return graph.node("Gemm", [x, *_own(path, weights, graph)], path, transB=1)
        case BatchNorm() as op:
            return _batch_norm(op, leaf, weights, x, graph)
        case GroupNorm(groups, epsilon):
            return _group_norm(groups, epsilon, leaf, weights, x, graph)
        case LayerNorm(epsilon):
            return _layer_norm(epsilon, leaf, weights, x, graph)
        case Relu():
            return graph.node("Relu", [x], path)
        case Relu6():
            return _clipped(x, path, path, graph)
        case LeakyRelu(slope):
            return graph.node("LeakyRelu", [x], path, alpha=slope)
        case Elu():
            return graph.node("Elu", [x], path)
        case Gelu(approximate):
            return _gelu(approximate, path, x, graph)
        case Silu():
            return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{path}/sigmoid")], path)
        case Sigmoid():
            return graph.node("Sigmoid", [x], path)
        case Tanh():
            return graph.node("Tanh", [x], path)
        case HardSigmoid():
            return _hard_sigmoid(path, x, path, graph)
        case HardSwish():
            return graph.node("Mul", [x, _hard_sigmoid(path, x, f"{path}/gate", graph)], path)
        case MaxPool(kernel, stride):
            pads = _pads(leaf.op, leaf)
            return graph.node("MaxPool", [x], path, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        case AvgPool() as op:
            return _avg_pool(op, leaf, x, graph)
        case GlobalAvgPool(keepdims):
            return _global("GlobalAveragePool", keepdims, path, x, graph)
        case GlobalMaxPool(keepdims):
            return _global("GlobalMaxPool", keepdims, path, x, graph)
        case ZeroPad(top, bottom, left, right):
            return _padded(x, (0, top, left, 0, bottom, right), path, graph)
        case Flatten():
            return graph.node("Flatten", [x], path, axis=1)
        case Dropout() | Identity():
            return graph.node("Identity", [x], path)
        case _:
            assert_never(leaf.op)


def _own(path: str, weights: Mapping[str, Array], graph: Graph) -> list[str]:
    return [graph.weight(f"{path}.{name}", array) for name, array in weights.items()]


def _conv(op: Conv, path: str, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    return graph.node(
        "Conv",
        [x, *_own(path, weights, graph)],
        path,
        kernel_shape=[op.kernel] * 2,
        strides=[op.stride] * 2,
        pads=[op.padding] * 4,
        dilations=[op.dilation] * 2,
        group=op.groups,
    )


def _batch_norm(op: BatchNorm, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    channels, path = leaf.given[0], leaf.path
    own = {name: f"{path}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    for name, full in own.items():  # a norm without scale and shift has none of its own, but ONNX wants them
        graph.weight(full, weights.get(name, np.full(channels, float(name == "weight"), graph.dtype)))
    return graph.node("BatchNormalization", [x, *own.values()], path, epsilon=op.epsilon)


def _group_norm(groups: int, epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Instance normalisation of each group laid out as one channel: ONNX's own group norm changed its meaning in opset 21."""
    path = leaf.path
    rows = graph.reshape(x, [0, groups, -1], f"{path}/groups")
    one = graph.weight(f"{path}/one", np.ones(groups, graph.dtype))
    zero = graph.weight(f"{path}/zero", np.zeros(groups, graph.dtype))
    normal = graph.node("InstanceNormalization", [rows, one, zero], f"{path}/normal", epsilon=epsilon)
    return _affine(graph.reshape(normal, [0, *leaf.given], f"{path}/image"), leaf, weights, graph)


def _affine(x: str, leaf: Leaf, weights: Mapping[str, Array], graph: Graph) -> str:
    """x times a scale plus a shift for each channel: (channels,) -> (channels, 1, 1)."""
    path, tall = leaf.path, (-1, *[1] * (len(leaf.given) - 1))
    scale = graph.weight(f"{path}.weight", weights["weight"].reshape(tall))
    shift = graph.weight(f"{path}.bias", weights["bias"].reshape(tall))
    return graph.node("Add", [graph.node("Mul", [x, scale], f"{path}/scaled"), shift], path)


def _layer_norm(epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """ONNX normalises trailing axes, so an image's channels are moved there and back."""
    path = leaf.path
    if graph.opset < 17:
        raise ValueError(
            f"{path} is a layer_norm, which ONNX has from opset 17 on; the opset asked for is {graph.opset}"
        )
    own = _own(path, weights, graph)
    if len(leaf.given) == 1:
        return graph.node("LayerNormalization", [x, *own], path, axis=-1, epsilon=epsilon)
    last = graph.node("Transpose", [x], f"{path}/channels_last", perm=[0, 2, 3, 1])
    normal = graph.node("LayerNormalization", [last, *own], f"{path}/normal", axis=-1, epsilon=epsilon)
    return graph.node("Transpose", [normal], path, perm=[0, 3, 1, 2])


def _clipped(x: str, path: str, gives: str, graph: Graph) -> str:
    return graph.node("Clip", [x, graph.number(f"{path}/least", 0), graph.number(f"{path}/most", 6)], gives)


def _hard_sigmoid(path: str, x: str, gives: str, graph: Graph) -> str:
    """relu6(x + 3) / 6: ONNX's own multiplies by a sixth in float32."""
    moved = graph.node("Add", [x, graph.number(f"{path}/three", 3)], f"{path}/moved")
    return graph.node("Div", [_clipped(moved, path, f"{path}/clipped", graph), f"{path}/most"], gives)


def _gelu(approximate: bool, path: str, x: str, graph: Graph) -> str:
    """From its formula: ONNX has GELU only from opset 20 on."""
    if approximate:
        square = graph.node("Mul", [x, x], f"{path}/square")
        part = graph.node("Mul", [square, graph.number(f"{path}/cubic", 0.044715)], f"{path}/part")
        slope = graph.node("Add", [part, graph.number(f"{path}/one", 1)], f"{path}/slope")
        inner = graph.node(
            "Mul", [graph.node("Mul", [x, slope], f"{path}/bent"), _root(path, 2 / math.pi, graph)], f"{path}/inner"
        )
        curve = graph.node("Tanh", [inner], f"{path}/tanh")
    else:
        inner = graph.node("Mul", [x, _root(path, 0.5, graph)], f"{path}/inner")
        curve = graph.node("Erf", [inner], f"{path}/erf")
        graph.number(f"{path}/one", 1)
    raised = graph.node("Add", [curve, f"{path}/one"], f"{path}/raised")
    half = graph.node("Mul", [raised, graph.number(f"{path}/half", 0.5)], f"{path}/share")
    return graph.node("Mul", [x, half], path)


def _root(path: str, square: float, graph: Graph) -> str:
    return graph.number(f"{path}/root", math.sqrt(square))


def _pads(op: MaxPool | AvgPool, leaf: Leaf) -> list[int]:
    """Top, left, bottom, right: after the image as many as the windows reach, so that no rule for rounding up is needed."""
    needs = [(count - 1) * op.stride + op.kernel - op.padding for count in leaf.gives[1:]]
    return [op.padding] * 2 + [max(0, need - size) for need, size in zip(needs, leaf.given[1:], strict=True)]


def _avg_pool(op: AvgPool, leaf: Leaf, x: str, graph: Graph) -> str:
    """What ceil adds beyond the padding counts in no case: where padding counts, it is laid around the image first."""
    pads = _pads(op, leaf)
    if op.count_padding and op.padding:
        x = _padded(x, (0, op.padding, op.padding, 0, op.padding, op.padding), f"{leaf.path}/padded", graph)
        pads = [0, 0, *(max(0, after - op.padding) for after in pads[2:])]
    window = {"kernel_shape": [op.kernel] * 2, "strides": [op.stride] * 2, "pads": pads, "count_include_pad": 0}
    return graph.node("AveragePool", [x], leaf.path, **window)


def _padded(x: str, pads: tuple[int, ...], gives: str, graph: Graph, mode: str = "constant") -> str:
    """Pads are (channels, top, left, channels, bottom, right): those before, then those after; the batch has none."""
    return graph.node("Pad", [x, graph.integers(f"{gives}/pads", [0, *pads[:3], 0, *pads[3:]])], gives, mode=mode)


def _global(kind: str, keepdims: bool, path: str, x: str, graph: Graph) -> str:
    if keepdims:
        return graph.node(kind, [x], path)
    return graph.node("Flatten", [graph.node(kind, [x], f"{path}/pooled")], path, axis=1)
