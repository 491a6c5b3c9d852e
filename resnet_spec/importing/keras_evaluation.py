"""Evaluate Keras' layers by their definitions, with the channels last, so that an import can be compared with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from resnet_spec.importing.problems import ImportRefused
from resnet_spec.weights.canonical import Array


class Layer(Protocol):
    """What is known of a layer: see ``keras_file.KerasLayer``."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def weights(self) -> tuple[Array, ...]: ...
    @property
    def numbers(self) -> tuple[float, ...]: ...


def evaluate(layers: Iterable[Layer], images: Array) -> dict[str, Array]:
    """Return the outputs of layers by name. A softmax that is the activation of a layer is left out."""
    values: dict[str, Array] = {}
    for layer in layers:
        inputs = [values[name] for name in layer.inputs]
        values[layer.name] = _activate(_layer(layer, inputs), layer) if inputs else images.astype(np.float64)
    return values


def _layer(layer: Layer, inputs: list[Array]) -> Array:
    x, config, weights = inputs[0], layer.config, [array.astype(np.float64) for array in layer.weights]
    match layer.kind:
        case "Conv2D":
            return _conv(x, weights[0], config) + (weights[1] if len(weights) > 1 else 0)
        case "DepthwiseConv2D":
            kernel, channels = weights[0], x.shape[-1]
            flat = kernel.reshape(*kernel.shape[:2], 1, -1)
            return _conv(x, flat, {**config, "groups": channels}) + (weights[1] if len(weights) > 1 else 0)
        case "SeparableConv2D":
            depthwise, channels = weights[0], x.shape[-1]
            y = _conv(x, depthwise.reshape(*depthwise.shape[:2], 1, -1), {**config, "groups": channels})
            return y @ weights[1][0, 0] + (weights[2] if len(weights) > 2 else 0)
        case "Dense":
            return x @ weights[0] + (weights[1] if len(weights) > 1 else 0)
        case "BatchNormalization":
            return _batch_norm(x, weights, config)
        case "LayerNormalization":
            return _affine(_normalize(x, (-1,), config), weights)
        case "GroupNormalization":
            groups = int(config.get("groups", 32))
            grouped = x.reshape(*x.shape[:-1], groups, -1)
            return _affine(_normalize(grouped, (1, 2, 4), config).reshape(x.shape), weights)
        case "MaxPooling2D" | "AveragePooling2D":
            return _pool(x, config, layer.kind == "MaxPooling2D")
        case "GlobalAveragePooling2D":
            return np.asarray(x.mean((1, 2), keepdims=bool(config.get("keepdims"))))
        case "GlobalMaxPooling2D":
            return np.asarray(x.max((1, 2), keepdims=bool(config.get("keepdims"))))
        case "ZeroPadding2D":
            return np.pad(x, [(0, 0), *(_pair(margin) for margin in config["padding"]), (0, 0)])
        case "UpSampling2D" if config.get("interpolation", "nearest") == "nearest":
            height, width = _pair(config.get("size", 2))
            return x.repeat(height, 1).repeat(width, 2)
        case "Add":
            return np.asarray(sum(inputs, start=sum(layer.numbers)))
        case "Subtract":
            return inputs[0] - inputs[1]
        case "Multiply":
            return np.asarray(math.prod(inputs[1:], start=inputs[0] * math.prod(layer.numbers)))
        case "Concatenate":
            return np.concatenate(inputs, axis=-1)
        case "Flatten":
            return x.reshape(len(x), -1)
        case "Reshape":
            return x.reshape(len(x), *config["target_shape"])
        case "Rescaling":
            return x * config.get("scale", 1.0) + config.get("offset", 0.0)
        case "ReLU":
            most = config.get("max_value")
            return np.minimum(
                np.where(x > 0, x, x * float(config.get("negative_slope") or 0)), np.inf if most is None else most
            )
        case "LeakyReLU":
            return np.where(x > 0, x, x * config.get("negative_slope", config.get("alpha", 0.3)))
        case "PReLU":
            return np.where(x > 0, x, x * weights[0])
        case "Activation" | "Dropout" | "Identity" | "ActivityRegularization":
            return x
        case kind:
            raise ImportRefused(f"{layer.name} is a {kind}, which can't be evaluated")


def _activate(x: Array, layer: Layer) -> Array:
    name = layer.config.get("activation", "linear")
    if isinstance(name, Mapping):
        name = name.get("config", name.get("class_name"))
    sigmoid = 1 / (1 + np.exp(-x))
    hard = np.clip(x + 3, 0, 6) / 6
    from resnet_spec.importing.curves import PRIMITIVES

    functions: dict[Any, Any] = {
        "relu": lambda: np.maximum(x, 0),
        "relu6": lambda: np.clip(x, 0, 6),
        "swish": lambda: x * sigmoid,
        "silu": lambda: x * sigmoid,
        "sigmoid": lambda: sigmoid,
        "tanh": lambda: np.tanh(x),
        "hard_sigmoid": lambda: hard,
        "elu": lambda: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "hard_swish": lambda: x * hard,
        "hard_silu": lambda: x * hard,
        "gelu": lambda: x * (1 + PRIMITIVES["erf"](x / math.sqrt(2))) / 2,
    }
    return np.asarray(functions[name]()) if name in functions else x


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, list | tuple) else (int(value), int(value))


def _padded(
    x: Array, kernel: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int], same: bool, fill: float
) -> Array:
    margins = []
    for size, extent, stride, spread in zip(x.shape[1:3], kernel, strides, dilation, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (extent - 1) * spread + 1 - size) if same else 0
        margins.append((total // 2, total - total // 2))
    return np.pad(x, [(0, 0), *margins, (0, 0)], constant_values=fill)


def _windows(x: Array, kernel: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int]) -> Array:
    """Return the windows of a map: (batch, rows, columns, channels, kernel's rows, kernel's columns)."""
    extent = tuple((size - 1) * spread + 1 for size, spread in zip(kernel, dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))
    return views[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def _conv(x: Array, kernel: Array, config: Mapping[str, Any]) -> Array:
    size, strides = _pair(kernel.shape), _pair(config.get("strides", 1))
    dilation, groups = _pair(config.get("dilation_rate", 1)), int(config.get("groups", 1))
    padded = _padded(x, size, strides, dilation, config.get("padding") == "same", 0.0)
    windows = _windows(padded, size, strides, dilation)
    inner, outer = x.shape[-1] // groups, kernel.shape[-1] // groups
    if inner == 1 and outer == 1:
        return np.asarray(sum(windows[..., i, j] * kernel[i, j, 0] for i in range(size[0]) for j in range(size[1])))
    outputs = [
        np.tensordot(
            windows[..., group * inner : (group + 1) * inner, :, :],
            kernel[..., group * outer : (group + 1) * outer],
            axes=((4, 5, 3), (0, 1, 2)),
        )
        for group in range(groups)
    ]
    return np.concatenate(outputs, axis=-1)


def _pool(x: Array, config: Mapping[str, Any], is_max: bool) -> Array:
    size = _pair(config.get("pool_size", 2))
    strides, same = _pair(config.get("strides") or size), config.get("padding") == "same"
    fill = -np.inf if is_max else np.nan
    windows = _windows(_padded(x, size, strides, (1, 1), same, fill), size, strides, (1, 1))
    return np.asarray(windows.max((4, 5)) if is_max else np.nanmean(windows, (4, 5)))


def _batch_norm(x: Array, weights: list[Array], config: Mapping[str, Any]) -> Array:
    mean, variance = weights[-2:]
    epsilon = float(np.float32(config.get("epsilon", 1e-3)))
    y = (x - mean) / np.sqrt(variance + epsilon)
    scale = weights[0] if config.get("scale", True) else 1.0
    shift = weights[int(config.get("scale", True))] if config.get("center", True) else 0.0
    return np.asarray(y * scale + shift)


def _normalize(x: Array, axes: tuple[int, ...], config: Mapping[str, Any]) -> Array:
    epsilon = float(np.float32(config.get("epsilon", 1e-3)))
    return np.asarray((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon))


def _affine(x: Array, weights: list[Array]) -> Array:
    return np.asarray(x * weights[0] + (weights[1] if len(weights) > 1 else 0))
