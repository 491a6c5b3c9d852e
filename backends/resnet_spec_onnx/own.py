"""Operations that ONNX lacks, or that mean something else there, put together from those that it has."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from resnet_spec.network.parts import Leaf
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import Graph


def weighted(path: str, weights: Mapping[str, Array], graph: Graph) -> list[str]:
    return [graph.weight(f"{path}.{name}", array) for name, array in weights.items()]


def group_norm(groups: int, epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Instance normalisation of each group laid out as one channel: ONNX's own group norm changed its meaning in opset 21."""
    path = leaf.path
    rows = graph.reshape(x, [0, groups, -1], f"{path}/groups")
    one = graph.weight(f"{path}/one", np.ones(groups, graph.dtype))
    zero = graph.weight(f"{path}/zero", np.zeros(groups, graph.dtype))
    normal = graph.node("InstanceNormalization", [rows, one, zero], f"{path}/normal", epsilon=epsilon)
    return affine(graph.reshape(normal, [0, *leaf.input_shape], f"{path}/image"), leaf, weights, graph)


def affine(x: str, leaf: Leaf, weights: Mapping[str, Array], graph: Graph, gives: str = "") -> str:
    """x times a scale plus a shift for each channel: (channels,) -> (channels, 1, 1)."""
    path, tall = leaf.path, (-1, *[1] * (len(leaf.input_shape) - 1))
    scale = graph.weight(f"{path}.weight", weights["weight"].reshape(tall))
    shift = graph.weight(f"{path}.bias", weights["bias"].reshape(tall))
    return graph.node("Add", [graph.node("Mul", [x, scale], f"{path}/scaled"), shift], gives or path)


def layer_norm(epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """ONNX normalises trailing axes, so an image's channels are moved there and back."""
    path = leaf.path
    if graph.opset < 17:
        raise ValueError(
            f"{path} is a layer_norm, which ONNX has from opset 17 on; the opset asked for is {graph.opset}"
        )
    own = weighted(path, weights, graph)
    if len(leaf.input_shape) == 1:
        return graph.node("LayerNormalization", [x, *own], path, axis=-1, epsilon=epsilon)
    last = graph.node("Transpose", [x], f"{path}/channels_last", perm=[0, 2, 3, 1])
    normal = graph.node("LayerNormalization", [last, *own], f"{path}/normal", axis=-1, epsilon=epsilon)
    return graph.node("Transpose", [normal], path, perm=[0, 3, 1, 2])


def clipped(x: str, path: str, gives: str, graph: Graph) -> str:
    return graph.node("Clip", [x, graph.number(f"{path}/least", 0), graph.number(f"{path}/most", 6)], gives)


def hard_sigmoid(path: str, x: str, gives: str, graph: Graph) -> str:
    """relu6(x + 3) / 6: ONNX's own multiplies by a sixth in float32."""
    moved = graph.node("Add", [x, graph.number(f"{path}/three", 3)], f"{path}/moved")
    return graph.node("Div", [clipped(moved, path, f"{path}/clipped", graph), f"{path}/most"], gives)


def gelu(approximate: bool, path: str, x: str, graph: Graph) -> str:
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


def evo_norm_s0(groups: int, epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """x * sigmoid(v * x) over the standard deviation of each group, laid out as one channel."""
    path = leaf.path
    v = graph.weight(f"{path}.v", weights["v"].reshape(-1, 1, 1))
    gate = graph.node("Sigmoid", [graph.node("Mul", [x, v], f"{path}/steep")], f"{path}/gate")
    curved = graph.node("Mul", [x, gate], f"{path}/curved")
    rows, over = (graph.reshape(y, [0, groups, -1], f"{path}/{name}") for y, name in ((x, "rows"), (curved, "over")))
    mean = graph.node("GlobalAveragePool", [rows], f"{path}/mean")
    spread = _root_mean_square(graph.node("Sub", [rows, mean], f"{path}/centred"), epsilon, path, graph)
    normal = graph.node("Div", [over, spread], f"{path}/normal")
    return affine(graph.reshape(normal, [0, *leaf.input_shape], f"{path}/image"), leaf, weights, graph)


def filter_response_norm(epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    path = leaf.path
    tau = graph.weight(f"{path}.tau", weights["tau"].reshape(-1, 1, 1))
    normal = graph.node("Div", [x, _root_mean_square(x, epsilon, path, graph)], f"{path}/normal")
    moved = affine(normal, leaf, weights, graph, f"{path}/moved")
    return graph.node("Max", [moved, tau], path)


def _root_mean_square(x: str, epsilon: float, path: str, graph: Graph) -> str:
    """Of each channel over its pixels, with epsilon in the root."""
    mean = graph.node("GlobalAveragePool", [graph.node("Mul", [x, x], f"{path}/square")], f"{path}/power")
    raised = graph.node("Add", [mean, graph.number(f"{path}/epsilon", epsilon)], f"{path}/raised")
    return graph.node("Sqrt", [raised], f"{path}/spread")


def standardized(kernel: Array, epsilon: float) -> Array:
    """Each filter to mean 0 and variance 1: a constant in inference."""
    flat = kernel.reshape(len(kernel), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + kernel.dtype.type(epsilon))
    return (centred / spread).reshape(kernel.shape)


def channel_conv(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """The channels as the pixels of a line: (batch, channels) -> (batch, 1, channels) and back."""
    path, reach = leaf.path, weights["weight"].shape[2] // 2
    line = graph.reshape(x, [0, 1, -1], f"{path}/line")
    inputs = [line, *weighted(path, weights, graph)]
    return graph.reshape(graph.node("Conv", inputs, f"{path}/conv", pads=[reach, reach]), [0, -1], path)


def blur_pool(stride: int, leaf: Leaf, x: str, graph: Graph) -> str:
    line = np.array([1, 2, 1], graph.dtype) / 4
    channels = leaf.input_shape[0]
    kernel = graph.weight(f"{leaf.path}/kernel", np.tile(np.outer(line, line), (channels, 1, 1, 1)))
    mirrored = padded(x, (0, 1, 1, 0, 1, 1), f"{leaf.path}/mirrored", graph, "reflect")
    return graph.node("Conv", [mirrored, kernel], leaf.path, strides=[stride] * 2, group=channels)


def split_sum(parts: int, leaf: Leaf, x: str, graph: Graph) -> str:
    split = graph.reshape(x, [0, parts, *leaf.output_shape], f"{leaf.path}/parts")
    return graph.node("ReduceSum", [split, graph.integers(f"{leaf.path}/axis", [1])], leaf.path, keepdims=0)


def split_softmax(parts: int, groups: int, leaf: Leaf, x: str, graph: Graph) -> str:
    # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
    split = graph.reshape(x, [0, groups, parts, -1], f"{leaf.path}/parts")
    turned = graph.node("Transpose", [split], f"{leaf.path}/turned", perm=[0, 2, 1, 3])
    return graph.reshape(
        graph.node("Softmax", [turned], f"{leaf.path}/softmax", axis=1), [0, *leaf.input_shape], leaf.path
    )


def _root(path: str, square: float, graph: Graph) -> str:
    return graph.number(f"{path}/root", math.sqrt(square))


def padded(x: str, pads: tuple[int, ...], gives: str, graph: Graph, mode: str = "constant") -> str:
    """Pads are (channels, top, left, channels, bottom, right): those before, then those after; the batch has none."""
    return graph.node("Pad", [x, graph.integers(f"{gives}/pads", [0, *pads[:3], 0, *pads[3:]])], gives, mode=mode)
