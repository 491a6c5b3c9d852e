"""Operations that ONNX lacks, or that mean something else there, composed of those that it has.

Each function adds nodes to a graph and returns the name of their output, which is the operation's path if the function
has no argument ``output``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from resnet_spec.network.parts import Leaf
from resnet_spec.ops import RmsNorm, SpaceToDepth, StandardizedConv, Upsample
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import Graph


def add_weights(leaf: Leaf, weights: Mapping[str, Array], graph: Graph) -> list[str]:
    """Add the weights of an operation as initializers; return their names."""
    return [graph.add_weight(f"{leaf.path}.{name}", array) for name, array in weights.items()]


def per_channel(weight: Array, leaf: Leaf) -> Array:
    """Return a weight with one number per channel, or one for all, in a shape that broadcasts against the input."""
    return weight.reshape(-1, *[1] * (len(leaf.input_shape) - 1))  # (channels, 1, 1) for an image


def add_linear(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add a fully connected layer: for a map, as a 1x1 convolution."""
    if len(leaf.input_shape) == 1:
        return graph.add_node("Gemm", [x, *add_weights(leaf, weights, graph)], leaf.path, transB=1)
    kernel = {**weights, "weight": weights["weight"][:, :, None, None]}
    return graph.add_node("Conv", [x, *add_weights(leaf, kernel, graph)], leaf.path, kernel_shape=[1, 1])


def add_group_norm(groups: int, epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add a group normalisation, as instance normalisation of each group laid out as one channel.

    ONNX's own GroupNormalization changed its meaning in opset 21.
    """
    path = leaf.path
    grouped = graph.add_reshape(x, [0, groups, -1], f"{path}/groups")
    one = graph.add_weight(f"{path}/one", np.ones(groups, graph.dtype))
    zero = graph.add_weight(f"{path}/zero", np.zeros(groups, graph.dtype))
    normalized = graph.add_node("InstanceNormalization", [grouped, one, zero], f"{path}/normal", epsilon=epsilon)
    image = graph.add_reshape_like(normalized, x, leaf.input_shape, f"{path}/image")
    return add_affine(image, leaf, weights, graph)


def add_affine(x: str, leaf: Leaf, weights: Mapping[str, Array], graph: Graph, output: str = "") -> str:
    """Scale and shift each channel by those of the weights that the operation has."""
    path, names = leaf.path, [name for name in ("weight", "bias") if name in weights]
    for name in names:
        operand = graph.add_weight(f"{path}.{name}", per_channel(weights[name], leaf))
        is_last = name == names[-1]
        x = graph.add_node(
            "Mul" if name == "weight" else "Add", [x, operand], (output or path) if is_last else f"{path}/scaled"
        )
    return x if names else graph.add_node("Identity", [x], output or path)


def add_layer_norm(epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add a layer normalisation over channels. ONNX normalises trailing axes, so an image's channels are moved there.

    Raises ValueError if the opset is older than 17.
    """
    path = leaf.path
    if graph.opset < 17:
        raise ValueError(f"{path} is a layer_norm, which needs opset 17 or later; the requested opset is {graph.opset}")
    ones = np.ones(leaf.input_shape[0], graph.dtype)  # ONNX requires a scale even where the operation has none
    names = add_weights(leaf, {"weight": weights.get("weight", ones), **weights}, graph)
    if len(leaf.input_shape) == 1:
        return graph.add_node("LayerNormalization", [x, *names], path, axis=-1, epsilon=epsilon)
    channels_last = graph.add_node("Transpose", [x], f"{path}/channels_last", perm=[0, 2, 3, 1])
    inputs = [channels_last, *names]
    normalized = graph.add_node("LayerNormalization", inputs, f"{path}/normal", axis=-1, epsilon=epsilon)
    return graph.add_node("Transpose", [normalized], path, perm=[0, 3, 1, 2])


def add_relu6(path: str, x: str, output: str, graph: Graph) -> str:
    """Add min(max(x, 0), 6). Its bounds are the initializers ``{path}/least`` and ``{path}/most``."""
    bounds = [graph.add_scalar(f"{path}/least", 0), graph.add_scalar(f"{path}/most", 6)]
    return graph.add_node("Clip", [x, *bounds], output)


def add_hard_sigmoid(path: str, x: str, output: str, graph: Graph) -> str:
    """Add relu6(x + 3) / 6. ONNX's own HardSigmoid multiplies by 1/6 in float32."""
    shifted = graph.add_node("Add", [x, graph.add_scalar(f"{path}/three", 3)], f"{path}/moved")
    clipped = add_relu6(path, shifted, f"{path}/clipped", graph)
    return graph.add_node("Div", [clipped, f"{path}/most"], output)  # ``most`` is 6


def add_gelu(approximate: bool, path: str, x: str, graph: Graph) -> str:
    """Add a GELU by its formula: x * (1 + erf(x / sqrt(2))) / 2, or its approximation by tanh.

    ONNX has Gelu only since opset 20.
    """
    if approximate:
        square = graph.add_node("Mul", [x, x], f"{path}/square")
        cubic = graph.add_node("Mul", [square, graph.add_scalar(f"{path}/cubic", 0.044715)], f"{path}/part")
        slope = graph.add_node("Add", [cubic, graph.add_scalar(f"{path}/one", 1)], f"{path}/slope")
        curved = graph.add_node("Mul", [x, slope], f"{path}/bent")
        factor = graph.add_scalar(f"{path}/root", math.sqrt(2 / math.pi))
        inner = graph.add_node("Mul", [curved, factor], f"{path}/inner")
        curve = graph.add_node("Tanh", [inner], f"{path}/tanh")
    else:
        inner = graph.add_node("Mul", [x, graph.add_scalar(f"{path}/root", math.sqrt(0.5))], f"{path}/inner")
        curve = graph.add_node("Erf", [inner], f"{path}/erf")
        graph.add_scalar(f"{path}/one", 1)
    raised = graph.add_node("Add", [curve, f"{path}/one"], f"{path}/raised")
    share = graph.add_node("Mul", [raised, graph.add_scalar(f"{path}/half", 0.5)], f"{path}/share")
    return graph.add_node("Mul", [x, share], path)


def add_evo_norm_s0(groups: int, epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add x * sigmoid(v * x) over the standard deviation of each group, laid out as one channel; scale and shift it."""
    path = leaf.path
    gated = x
    if "v" in weights:
        v = graph.add_weight(f"{path}.v", weights["v"].reshape(-1, 1, 1))
        gate = graph.add_node("Sigmoid", [graph.add_node("Mul", [x, v], f"{path}/steep")], f"{path}/gate")
        gated = graph.add_node("Mul", [x, gate], f"{path}/curved")
    grouped = graph.add_reshape(x, [0, groups, -1], f"{path}/rows")
    grouped_gated = graph.add_reshape(gated, [0, groups, -1], f"{path}/over")
    mean = graph.add_node("GlobalAveragePool", [grouped], f"{path}/mean")
    std = _add_root_mean_square(graph.add_node("Sub", [grouped, mean], f"{path}/centred"), epsilon, path, graph)
    normalized = graph.add_node("Div", [grouped_gated, std], f"{path}/normal")
    image = graph.add_reshape_like(normalized, x, leaf.input_shape, f"{path}/image")
    return add_affine(image, leaf, weights, graph)


def add_filter_response_norm(epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add max(y, tau), where y is x over its root mean square in each channel, scaled and shifted."""
    path = leaf.path
    tau = graph.add_weight(f"{path}.tau", weights["tau"].reshape(-1, 1, 1))
    normalized = graph.add_node("Div", [x, _add_root_mean_square(x, epsilon, path, graph)], f"{path}/normal")
    y = add_affine(normalized, leaf, weights, graph, f"{path}/moved")
    return graph.add_node("Max", [y, tau], path)


def _add_root_mean_square(x: str, epsilon: float, path: str, graph: Graph) -> str:
    """Add sqrt(mean(x^2) + epsilon) of each channel, over its pixels."""
    mean = graph.add_node("GlobalAveragePool", [graph.add_node("Mul", [x, x], f"{path}/square")], f"{path}/power")
    raised = graph.add_node("Add", [mean, graph.add_scalar(f"{path}/epsilon", epsilon)], f"{path}/raised")
    return graph.add_node("Sqrt", [raised], f"{path}/spread")


def standardize(op: StandardizedConv, leaf: Leaf, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return the weights of the convolution by which a standardised one is written."""
    kernel = weights["weight"]
    flat = kernel.reshape(len(kernel), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    std = np.sqrt((centred**2).mean(axis=1, keepdims=True) + kernel.dtype.type(op.epsilon))
    standardized = (centred / std).reshape(kernel.shape)
    if op.scaled:
        standardized = standardized * (weights["gain"] * kernel.dtype.type(op.fan_in_factor(leaf.input_shape)))
    return {"weight": standardized, **({"bias": weights["bias"]} if op.bias else {})}


def add_channel_conv(leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add a convolution along the channels, reshaped from (batch, channels) to (batch, 1, channels) and back."""
    path, padding = leaf.path, weights["weight"].shape[2] // 2
    row = graph.add_reshape(x, [0, 1, -1], f"{path}/line")
    inputs = [row, *add_weights(leaf, weights, graph)]
    convolved = graph.add_node("Conv", inputs, f"{path}/conv", pads=[padding, padding])
    return graph.add_reshape(convolved, [0, -1], path)


def add_blur_pool(stride: int, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add a fixed 3x3 blur with mirrored edges, as a depthwise convolution."""
    row = np.array([1, 2, 1], graph.dtype) / 4
    channels = leaf.input_shape[0]
    kernel = graph.add_weight(f"{leaf.path}/kernel", np.tile(np.outer(row, row), (channels, 1, 1, 1)))
    mirrored = add_pad(x, (0, 1, 1, 0, 1, 1), f"{leaf.path}/mirrored", graph, "reflect")
    return graph.add_node("Conv", [mirrored, kernel], leaf.path, strides=[stride] * 2, group=channels)


def add_split_sum(parts: int, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add the sum of equal parts of the channels."""
    names = [f"{leaf.path}/parts{index}" for index in range(parts)]
    pieces = graph.add_split(x, [leaf.output_shape[0]] * parts, names, leaf.path)
    return graph.add_node("Sum", pieces, leaf.path)


def add_split_softmax(parts: int, groups: int, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add the softmax over the parts of each group of channels."""
    # (batch, groups, parts, rest) -> (batch, parts, groups, rest)
    split = graph.add_reshape(x, [0, groups, parts, -1], f"{leaf.path}/parts")
    transposed = graph.add_node("Transpose", [split], f"{leaf.path}/turned", perm=[0, 2, 1, 3])
    softmax = graph.add_node("Softmax", [transposed], f"{leaf.path}/softmax", axis=1)
    return graph.add_reshape_like(softmax, x, leaf.input_shape, leaf.path)


def add_pad(x: str, pads: tuple[int, ...], output: str, graph: Graph, mode: str = "constant") -> str:
    """Add a padding. ``pads`` are (channels, top, left) before the image and (channels, bottom, right) after it."""
    with_batch = [0, *pads[:3], 0, *pads[3:]]
    return graph.add_node("Pad", [x, graph.add_integers(f"{output}/pads", with_batch)], output, mode=mode)


def add_rms_norm(op: RmsNorm, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add a normalisation by the root mean square of the channels, or by their standard deviation."""
    path, centred = leaf.path, x
    if op.variance:
        centred = graph.add_node(
            "Sub", [x, add_reduction("ReduceMean", leaf, x, graph, f"{path}/mean")], f"{path}/centred"
        )
    square = graph.add_node("Mul", [centred, centred], f"{path}/square")
    power = add_reduction("ReduceMean", leaf, square, graph, f"{path}/power")
    if op.variance:
        channels = leaf.input_shape[0]
        unbiased = graph.add_scalar(f"{path}/unbiased", channels / (channels - 1))
        power = graph.add_node("Mul", [power, unbiased], f"{path}/variance")
    raised = graph.add_node("Add", [power, graph.add_scalar(f"{path}/epsilon", op.epsilon)], f"{path}/raised")
    root = graph.add_node("Sqrt", [raised], f"{path}/root")
    return add_affine(graph.add_node("Div", [x, root], f"{path}/normal"), leaf, weights, graph)


def add_global_response_norm(epsilon: float, leaf: Leaf, weights: Mapping[str, Array], x: str, graph: Graph) -> str:
    """Add x + weight * x * n + bias, with n a channel's norm over the mean of all norms."""
    path = leaf.path
    square = graph.add_node("Mul", [x, x], f"{path}/square")
    total = graph.add_node("ReduceSum", [square, graph.add_integers(f"{path}/axes", [2, 3])], f"{path}/total")
    norm = graph.add_node("Sqrt", [total], f"{path}/norm")
    mean = add_reduction("ReduceMean", leaf, norm, graph, f"{path}/mean")
    raised = graph.add_node("Add", [mean, graph.add_scalar(f"{path}/epsilon", epsilon)], f"{path}/raised")
    ratio = graph.add_node("Div", [norm, raised], f"{path}/ratio")
    moved = add_affine(graph.add_node("Mul", [x, ratio], f"{path}/times"), leaf, weights, graph, f"{path}/moved")
    return graph.add_node("Add", [x, moved], path)


def add_reduction(kind: str, leaf: Leaf, x: str, graph: Graph, output: str = "") -> str:
    """Add the mean or the maximum over the channels of each pixel. Until opset 18 its axes are an attribute."""
    if graph.opset < 18:
        return graph.add_node(kind, [x], output or leaf.path, axes=[1], keepdims=1)
    axes = graph.add_integers(f"{output or leaf.path}/axes", [1])
    return graph.add_node(kind, [x, axes], output or leaf.path, keepdims=1)


def add_adaptive_avg_pool(size: tuple[int, int], leaf: Leaf, x: str, graph: Graph) -> str:
    """Add the means over windows that divide a map, as products with each pixel's share in each window."""
    shares = []
    for count, length in zip(size, leaf.input_shape[1:], strict=True):
        share = np.zeros((count, length), graph.dtype)
        for index in range(count):
            start, end = index * length // count, -(-(index + 1) * length // count)
            share[index, start:end] = 1 / (end - start)
        shares.append(share)
    return _add_products(shares, leaf, x, graph)


def _add_products(shares: Sequence[Array], leaf: Leaf, x: str, graph: Graph) -> str:
    """Add the product of a map with a matrix on the left, for its rows, and one on the right, for its columns."""
    rows, columns = shares
    left = graph.add_weight(f"{leaf.path}/rows", rows)
    right = graph.add_weight(f"{leaf.path}/columns", np.ascontiguousarray(columns.T))
    return graph.add_node("MatMul", [graph.add_node("MatMul", [left, x], f"{leaf.path}/left"), right], leaf.path)


def add_space_to_depth(op: SpaceToDepth, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add tiles of pixels as channels. ONNX orders them by row, column and channel; a gather sorts them."""
    tiles = graph.add_node("SpaceToDepth", [x], f"{leaf.path}/tiles", blocksize=op.size)
    # The axes are row in the tile, column in the tile, channel.
    places = np.arange(leaf.output_shape[0]).reshape(op.size, op.size, leaf.input_shape[0])
    axes = [{"row": 0, "column": 1, "channel": 2}[name] for name in op.order.split("_")]
    return _add_channel_order(places.transpose(axes).reshape(-1).tolist(), leaf.path, tiles, graph)


def add_channel_shuffle(groups: int, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add the move of channel (group, i) to (i, group)."""
    places = np.arange(leaf.input_shape[0]).reshape(groups, -1)
    return _add_channel_order(places.T.reshape(-1).tolist(), leaf.path, x, graph)


def _add_channel_order(order: Sequence[int], path: str, x: str, graph: Graph) -> str:
    """Add a gather of channels in an order."""
    return graph.add_node("Gather", [x, graph.add_integers(f"{path}/order", order)], path, axis=1)


def add_upsample(op: Upsample, leaf: Leaf, x: str, graph: Graph) -> str:
    """Add an interpolation, as products with each pixel's share in each new pixel. ONNX's Resize rounds to float32."""
    shares = []
    for length in leaf.input_shape[1:]:
        centres = (np.arange(length * op.factor) + 0.5) / op.factor - 0.5
        distance = np.abs(np.clip(centres, 0, length - 1)[:, None] - np.arange(length))
        nearest = np.arange(length * op.factor)[:, None] // op.factor == np.arange(length)
        share = nearest if op.mode == "nearest" else np.maximum(0, 1 - distance)
        shares.append(share.astype(graph.dtype))
    return _add_products(shares, leaf, x, graph)
