"""Read Keras' files, whose configuration is JSON and whose weights are HDF5: neither Keras nor TensorFlow is needed.

Lambda layers, which are code, and layers of other packages are refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec import ops
from resnet_spec.backend import BackendError
from resnet_spec.importing import keras_evaluation
from resnet_spec.importing.foreign import ForeignOutputs, ForeignStep
from resnet_spec.importing.graph import Builder, Graph, Refused, Site, Value
from resnet_spec.importing.problems import ImportRefused
from resnet_spec.ops import Op, ShapeError
from resnet_spec.weights.canonical import Array

Shape3 = tuple[int, int, int]

MAX_CONFIG_BYTES = 2**26
"""Most bytes of a configuration, so that a small archive can't fill the memory."""

_BLOCKS = (
    re.compile(r"^(\w+?)_(block\d+)_(\w+)$"),
    re.compile(r"^(block_?\d+[a-z]?)_(\w+)$"),
    re.compile(r"^(\w+?_\d+)_([A-Za-z]\w*)$"),
)
"""Names of layers in a block in Keras' networks: conv2_block1_1_conv, block1a_bn, expanded_conv_1_add."""


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """A layer: its class, name and configuration, the names of the layers that it reads, and its weights in order.

    Attributes:
        path: The path in a spec, where the layers of a block have a prefix in common.
        numbers: The numbers that an operation reads beside the outputs of layers.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    weights: tuple[Array, ...] = ()
    path: str = ""
    numbers: tuple[float, ...] = ()


def _layer_path(name: str, names: Container[str]) -> str:
    for pattern in _BLOCKS:
        match = pattern.match(name)
        if match and match[1] not in names:
            return ".".join(match.groups())
    return re.sub(r"[^\w.-]+", "_", name)


class KerasModel:
    """The model in a ``.keras`` or ``.h5`` file, with its layers in an order in which they can run."""

    dtype = "float64"
    classes: Mapping[str, str] = {}

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no file named {str(path)!r}")
        config, weights = _read_file(self.path)
        try:
            self._read(config, weights)
        except ImportRefused:
            raise
        except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            message = f"{self.path}: its configuration is not as Keras writes it: {type(error).__name__}: {error}"
            raise ImportRefused(message) from None

    def _read(self, config: Mapping[str, Any], weights: _Weights) -> None:
        self.name = str(config.get("config", {}).get("name") or self.path.stem)
        self.layers, self.outputs = _layers(config)
        names = {layer.name for layer in self.layers}
        self.layers = [
            replace(
                layer,
                weights=weights.arrays(layer.name, str(layer.config.get("_alias", ""))),
                path=_layer_path(layer.name, names),
            )
            for layer in self.layers
        ]
        shape = next((_input_shape(layer) for layer in self.layers if layer.kind == "InputLayer"), None)
        self.input_shape: Shape3 | None = None if shape is None or None in shape else (shape[2], shape[0], shape[1])

    def graph(self, input_shape: Shape3, until: str = "") -> Graph:
        """Return the graph for images of a shape."""
        return _Reader(self, input_shape).read()

    def run(self, images: Array, until: str = "") -> ForeignOutputs:
        """Evaluate the layers as Keras defines them, with the channels last, in NumPy."""
        values = keras_evaluation.evaluate(self.layers, images.transpose(0, 2, 3, 1))
        arrays = [values[name] for name in self.outputs]
        plain = (layer for layer in self.layers if layer.weights and layer.config.get("activation") in (None, "linear"))
        modules = {layer.path: _channels_first(values[layer.name]) for layer in plain}
        return ForeignOutputs(tuple(map(_channels_first, arrays)), modules)

    def step(self, images: Array, labels: Array) -> ForeignStep | None:
        """Return None: a file does not train."""
        return None


def _channels_first(array: Array) -> Array:
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


# -- files -------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> tuple[dict[str, Any], Any]:
    """Return the configuration in a file, and what holds its weights. Files that attack their reader are refused."""
    h5py = _import_h5py()
    from resnet_spec.checkpoints.formats import hdf5_file

    try:
        hdf5_file.read(str(path))  # raises CheckpointError for links to other files, and arrays that are not there
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = _read_json(archive.open("config.json").read(MAX_CONFIG_BYTES + 1))
                return config, _Weights(h5py.File(io.BytesIO(archive.read(hdf5_file.MEMBER)), "r"), is_legacy=False)
        file = h5py.File(path, "r")
        text = file.attrs.get("model_config")
        if text is None:
            raise ImportRefused(f"{path} holds weights without a configuration; save the entire model")
        return _read_json(text), _Weights(file["model_weights"], is_legacy=True)
    except ImportRefused:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ImportRefused(f"{path} is no Keras file that can be read: {error}") from None


def _import_h5py() -> Any:
    from importlib import import_module

    try:
        return import_module("h5py")
    except ModuleNotFoundError:
        raise BackendError(
            "Keras' files need h5py, which is not installed; try: pip install 'resnet-spec[keras]'"
        ) from None


def _read_json(data: bytes | str) -> dict[str, Any]:
    if len(data) > MAX_CONFIG_BYTES:
        raise ValueError(f"its configuration has more than {MAX_CONFIG_BYTES:,} bytes")
    config = json.loads(data)
    if not isinstance(config, dict):
        raise ValueError("its configuration is no mapping")
    return config


class _Weights:
    """The weights of layers in an HDF5 file: in Keras 3 by the class and its count, before that by the layer's name."""

    def __init__(self, group: Any, is_legacy: bool) -> None:
        self.group = group
        self.is_legacy = is_legacy
        groups = () if is_legacy else (item.get("vars") for item in group.get("layers", {}).values())
        self.by_name = {str(item.attrs["name"]): item for item in groups if item is not None and "name" in item.attrs}

    def arrays(self, name: str, alias: str) -> tuple[Array, ...]:
        """Return a layer's weights in Keras' order."""
        if self.is_legacy:
            if name not in self.group:
                return ()
            names = [
                item.decode() if isinstance(item, bytes) else item for item in self.group[name].attrs["weight_names"]
            ]
            return tuple(np.asarray(self.group[name][item]) for item in names)
        found = (
            self.by_name.get(name) or self.group.get(f"layers/{alias}/vars") or self.group.get(f"layers/{name}/vars")
        )
        return () if found is None else tuple(np.asarray(found[str(index)]) for index in range(len(found)))


# -- configurations ----------------------------------------------------------------------------------------------


def _layers(model: Mapping[str, Any]) -> tuple[list[KerasLayer], list[str]]:
    """Return the layers of a model and the names of its outputs."""
    kind, config = model.get("class_name"), model.get("config", {})
    if kind not in ("Functional", "Model", "Sequential"):
        raise ImportRefused(
            f"the model is a {kind}, and only functional and sequential models can be read without code"
        )
    counts: Counter[str] = Counter()
    layers: list[KerasLayer] = []
    previous: tuple[str, ...] = ()
    for item in config.get("layers", []):
        inner = dict(item.get("config", {}))
        name, layer_kind = str(inner.get("name") or item.get("name")), str(item.get("class_name"))
        stem = _snake_case(layer_kind)
        inner["_alias"] = f"{stem}_{counts[stem]}" if counts[stem] else stem
        counts[stem] += 1
        inputs = previous if kind == "Sequential" else tuple(_inbound(item))
        layers.append(
            KerasLayer(layer_kind, name, inner, inputs, numbers=tuple(_numbers(item.get("inbound_nodes", []))))
        )
        previous = (name,)
    if kind == "Sequential" and layers and layers[0].kind != "InputLayer":
        shape = layers[0].config.get("batch_input_shape") or config.get("build_input_shape")
        layers.insert(0, KerasLayer("InputLayer", "input", {"batch_shape": shape}, ()))
        layers[1] = replace(layers[1], inputs=("input",))
    outputs = (
        [layers[-1].name]
        if kind == "Sequential"
        else [name for name, *_ in _references(config.get("output_layers", []))]
    )
    return layers, outputs


def _inbound(item: Mapping[str, Any]) -> Iterator[str]:
    nodes = item.get("inbound_nodes", [])
    if len(nodes) > 1:
        raise ImportRefused(f"the layer {item.get('name')} is used {len(nodes)} times, which no spec says")
    yield from (name for name, *_ in _references(nodes))


def _numbers(nodes: Any) -> Iterator[float]:
    """Yield the numbers among the arguments of a Keras 3 operation."""
    for node in nodes if isinstance(nodes, list) else ():
        for item in node.get("args", []) if isinstance(node, Mapping) else ():
            if isinstance(item, int | float) and not isinstance(item, bool):
                yield float(item)


def _references(value: Any) -> Iterator[tuple[str, int, int]]:
    """Yield the references to layers' outputs in what Keras 2 and 3 write for them."""
    if isinstance(value, Mapping):
        history = (
            value.get("config", {}).get("keras_history") if value.get("class_name") == "__keras_tensor__" else None
        )
        if history:
            yield str(history[0]), 0, 0
            return
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(isinstance(item, int) for item in value[1:3]):
            yield value[0], value[1], value[2]
            return
        for inner in value:
            yield from _references(inner)


def _snake_case(name: str) -> str:
    text = re.sub(r"\W+", "", name)
    text = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", text)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", text).lower()


def _input_shape(layer: KerasLayer) -> tuple[Any, ...] | None:
    shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    return tuple(shape[1:]) if shape and len(shape) == 4 else None


# -- layers ------------------------------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Op | None] = {
    "linear": None,
    "relu": ops.Relu(),
    "relu6": ops.Relu6(),
    "swish": ops.Silu(),
    "silu": ops.Silu(),
    "sigmoid": ops.Sigmoid(),
    "tanh": ops.Tanh(),
    "elu": ops.Elu(),
    "gelu": ops.Gelu(),
    "hard_swish": ops.HardSwish(),
    "hard_silu": ops.HardSwish(),
    "hard_sigmoid": ops.HardSigmoid(),
}


class _Reader:
    def __init__(self, model: KerasModel, input_shape: Shape3) -> None:
        self.model = model
        self.builder = Builder(input_shape)
        self.weights: dict[str, Array] = {}
        self.values: dict[str, Value] = {}
        self.notes: list[str] = []

    def read(self) -> Graph:
        """Return the graph."""
        for layer in self.model.layers:
            if layer.kind == "InputLayer":
                self.values[layer.name] = Value(self.builder.input)
                continue
            missing = [name for name in layer.inputs if name not in self.values]
            if missing or not layer.inputs:
                raise ImportRefused(
                    f"the layer {layer.name} reads {missing or 'nothing'}, which no layer before it gives"
                )
            self.values[layer.name] = self._read_layer(layer)
        nodes = tuple(self.builder.node_of(self.values[name], Site()) for name in self.model.outputs)
        return Graph(self.builder.input, nodes, self.weights, notes=tuple(self.notes), has_modules=False)

    def _read_layer(self, layer: KerasLayer) -> Value:
        values = [self.values[name] for name in layer.inputs]
        scope, _, name = layer.path.rpartition(".")
        site = Site(scope, name, "", layer.kind, is_layer=True)
        try:
            handler = _HANDLERS.get(layer.kind)
            if handler is None:
                code = ", which is code" if "Lambda" in layer.kind else ""
                raise Refused(f"no operation of the language is this layer{code}")
            if layer.config.get("data_format", "channels_last") not in ("channels_last", None):
                raise Refused("a layer with its channels first")
            if layer.numbers and layer.kind not in ("Add", "Multiply"):
                raise Refused("a layer that reads numbers beside the outputs of layers")
            if any(value.node.kind == "refused" for value in values):
                raise Refused("")  # their shapes are not known
            result = handler(self, layer, values, site)
            return self.activate(result, layer, site)
        except (Refused, ShapeError) as error:
            return self.builder.refuse(values, values[0].shape, site, str(error))
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            reason = f"it is configured in a way that is not known here ({type(error).__name__}: {error})"
            return self.builder.refuse(values, values[0].shape, site, reason)

    def activate(self, value: Value, layer: KerasLayer, site: Site) -> Value:
        """Return a value behind the activation that a layer has of its own."""
        name = layer.config.get("activation", "linear")
        if isinstance(name, Mapping):
            name = name.get("config", name.get("class_name"))
        if name in (None, "linear"):
            return value
        if name == "softmax" and layer.name in self.model.outputs:
            self.notes.append(f"the softmax of {layer.name} is left out: the network's output is what it reads")
            return value
        if name not in _ACTIVATIONS:
            raise Refused(f"the activation {name}")
        op = _ACTIVATIONS[name]
        own = site if layer.kind == "Activation" else Site(site.scope, "", "", layer.kind)
        return value if op is None else self.builder.elementwise(op, value, own)

    def names(self, layer: KerasLayer, **arrays: Array | None) -> dict[str, str]:
        """Record a layer's weights; return their names by ours."""
        found = {own: array for own, array in arrays.items() if array is not None}
        self.weights |= {f"{layer.path}.{own}": np.asarray(array, np.float64) for own, array in found.items()}
        return {own: f"{layer.path}.{own}" for own in found}

    def pad(self, config: Mapping[str, Any]) -> Any:
        """Return a layer's padding."""
        return "same" if config.get("padding") == "same" else 0


_Handler = Callable[[_Reader, KerasLayer, Sequence[Value], Site], Value]
_HANDLERS: dict[str, _Handler] = {}


def _handles(*kinds: str) -> Callable[[_Handler], _Handler]:
    def register(handler: _Handler) -> _Handler:
        _HANDLERS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, list | tuple) else (int(value), int(value))


def _array(layer: KerasLayer, index: int) -> Array:
    if index >= len(layer.weights):
        raise Refused("its weights are not in the file")
    return layer.weights[index]


@_handles("Conv2D")
def _conv(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config, kernel = layer.config, _array(layer, 0)
    bias = _array(layer, 1) if config.get("use_bias", True) else None
    value, padding = _unpadded(values[0], r.pad(config))
    op = ops.Conv(
        kernel.shape[3],
        _pair(kernel.shape),
        _pair(config.get("strides", 1)),
        padding,
        _pair(config.get("dilation_rate", 1)),
        int(config.get("groups", 1)),
        bias is not None,
    )
    return r.builder.add(op, value, site, r.names(layer, weight=kernel.transpose(3, 2, 0, 1), bias=bias))


def _unpadded(value: Value, padding: Any) -> tuple[Value, Any]:
    """Return what a convolution reads, and its padding: zeros on all sides before it are its own."""
    pad = value.node.op
    if padding == 0 and isinstance(pad, ops.ZeroPad) and (pad.top, pad.left) == (pad.bottom, pad.right):
        return Value(value.node.inputs[0]), (pad.top, pad.left)
    return value, padding


@_handles("DepthwiseConv2D")
def _depthwise(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config, kernel = layer.config, _array(layer, 0)
    bias = _array(layer, 1) if config.get("use_bias", True) else None
    height, width, channels, factor = kernel.shape
    weight = kernel.transpose(2, 3, 0, 1).reshape(channels * factor, 1, height, width)
    value, padding = _unpadded(values[0], r.pad(config))
    op = ops.Conv(
        channels * factor,
        (height, width),
        _pair(config.get("strides", 1)),
        padding,
        _pair(config.get("dilation_rate", 1)),
        channels,
        bias is not None,
    )
    return r.builder.add(op, value, site, r.names(layer, weight=weight, bias=bias))


@_handles("SeparableConv2D")
def _separable(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config, own = {**layer.config, "use_bias": False}, ("depthwise", "pointwise")
    depthwise, pointwise = (Site(site.path, name, "", layer.kind, is_layer=True) for name in own)
    first = replace(layer, path=f"{layer.path}.depthwise", config=config, weights=(_array(layer, 0),))
    value = _depthwise(r, first, values, depthwise)
    bias = (_array(layer, 2),) if layer.config.get("use_bias", True) else ()
    plain = {**config, "strides": 1, "dilation_rate": 1, "padding": "valid", "use_bias": bool(bias)}
    second = replace(layer, path=f"{layer.path}.pointwise", config=plain, weights=(_array(layer, 1), *bias))
    return _conv(r, second, [value], pointwise)


@_handles("Dense")
def _dense(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    kernel = _array(layer, 0)
    bias = _array(layer, 1) if layer.config.get("use_bias", True) else None
    value, node = values[0], values[0].node
    if value.index is not None and len(value.shape) == 1 and value.index.size == np.prod(node.shape):
        moved = np.empty_like(kernel)  # a map was flattened with its channels last
        moved[value.index] = kernel
        kernel, value = moved, r.builder.rearrange(Value(node), np.arange(value.index.size))
    op = ops.Linear(kernel.shape[1], bias is not None)
    return r.builder.add(op, value, site, r.names(layer, weight=np.ascontiguousarray(kernel.T), bias=bias))


@_handles("BatchNormalization")
def _batch_norm(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config = layer.config
    axis = config.get("axis", -1)
    if (axis[0] if isinstance(axis, list) else axis) not in (-1, 3):
        raise Refused("a batch normalisation over another axis than the channels")
    has_scale, has_shift = config.get("scale", True), config.get("center", True)
    arrays = list(layer.weights)
    if len(arrays) != has_scale + has_shift + 2:
        raise Refused("its weights are not in the file")
    mean, variance = arrays[-2:]
    scale = arrays[0] if has_scale else np.ones_like(mean)
    shift = arrays[int(has_scale)] if has_shift else np.zeros_like(mean)
    affine = has_scale or has_shift
    op = ops.BatchNorm(float(config.get("epsilon", 1e-3)), float(config.get("momentum", 0.99)), "biased", affine)
    learned = {"weight": scale, "bias": shift} if affine else {}
    return r.builder.add(op, values[0], site, r.names(layer, **learned, running_mean=mean, running_var=variance))


@_handles("LayerNormalization")
def _layer_norm(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config = layer.config
    if not config.get("scale", True):
        raise Refused("a layer normalisation without a scale")
    bias = _array(layer, 1) if config.get("center", True) else None
    op = ops.LayerNorm(float(config.get("epsilon", 1e-3)), bias=bias is not None)
    return r.builder.add(op, values[0], site, r.names(layer, weight=_array(layer, 0), bias=bias))


@_handles("GroupNormalization")
def _group_norm(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config = layer.config
    if not (config.get("scale", True) and config.get("center", True)):
        raise Refused("a group normalisation without a scale or a shift")
    op = ops.GroupNorm(int(config.get("groups", 32)), float(config.get("epsilon", 1e-3)))
    return r.builder.add(op, values[0], site, r.names(layer, weight=_array(layer, 0), bias=_array(layer, 1)))


@_handles("Activation", "Identity", "ActivityRegularization")
def _activation(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    return values[0]


@_handles("ReLU")
def _relu(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config = layer.config
    slope, most = float(config.get("negative_slope") or 0), config.get("max_value")
    if config.get("threshold") or (most not in (None, 6, 6.0)) or (slope and most):
        raise Refused("a ReLU with a threshold, or a maximum other than 6")
    op: Op = ops.LeakyRelu(slope) if slope else ops.Relu6() if most else ops.Relu()
    return r.builder.elementwise(op, values[0], site)


@_handles("LeakyReLU")
def _leaky_relu(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    slope = layer.config.get("negative_slope", layer.config.get("alpha", 0.3))
    return r.builder.elementwise(ops.LeakyRelu(float(slope)), values[0], site)


@_handles("PReLU")
def _prelu(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    slope = _array(layer, 0)
    if slope.size not in (1, values[0].shape[0]):
        raise Refused("a PReLU with a slope for each pixel; shared_axes=[1, 2] has one for each channel")
    op = ops.Prelu(per="channel" if slope.size > 1 else "all")
    return r.builder.add(op, values[0], site, r.names(layer, weight=slope.reshape(-1)))


@_handles("Dropout")
def _dropout(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    rate = float(layer.config.get("rate", 0))
    shape = layer.config.get("noise_shape")
    if shape and list(shape[1:]) == [1] * (len(shape) - 1):
        return r.builder.elementwise(ops.DropPath(rate), values[0], site) if rate else values[0]
    if shape:
        raise Refused("dropout with a noise_shape")
    return r.builder.elementwise(ops.Dropout(rate), values[0], site) if rate else values[0]


@_handles("MaxPooling2D")
def _max_pool(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config = layer.config
    kernel = _pair(config.get("pool_size", 2))
    return r.builder.add(ops.MaxPool(kernel, _pair(config.get("strides") or kernel), r.pad(config)), values[0], site)


@_handles("AveragePooling2D")
def _avg_pool(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    config = layer.config
    kernel = _pair(config.get("pool_size", 2))
    return r.builder.add(ops.AvgPool(kernel, _pair(config.get("strides") or kernel), r.pad(config)), values[0], site)


@_handles("GlobalAveragePooling2D")
def _global_avg_pool(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    return r.builder.reduce("mean", values[0], (1, 2), bool(layer.config.get("keepdims")), site)


@_handles("GlobalMaxPooling2D")
def _global_max_pool(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    return r.builder.reduce("max", values[0], (1, 2), bool(layer.config.get("keepdims")), site)


@_handles("ZeroPadding2D")
def _zero_pad(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    (top, bottom), (left, right) = (_pair(margin) for margin in layer.config["padding"])
    return r.builder.add(ops.ZeroPad(top, bottom, left, right), values[0], site)


@_handles("UpSampling2D")
def _upsample(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    factor, mode = _pair(layer.config.get("size", 2)), layer.config.get("interpolation", "nearest")
    if factor[0] != factor[1] or mode not in ("nearest", "bilinear"):
        raise Refused(f"upsampling by {factor} with interpolation={mode}")
    return r.builder.add(ops.Upsample(factor[0], mode), values[0], site)


@_handles("Rescaling")
def _rescaling(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    scale, offset = layer.config.get("scale", 1.0), layer.config.get("offset", 0.0)
    if offset or isinstance(scale, list):
        raise Refused("a rescaling with an offset, or by several factors: prepare the images instead")
    return r.builder.scale(values[0], float(scale), site)


@_handles("Add", "Subtract", "Multiply")
def _merge(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    combine: Any = layer.kind.lower()
    if len(values) == 1 and len(layer.numbers) == 1 and combine != "subtract":
        (number,) = layer.numbers
        curve = (lambda x: x + number) if combine == "add" else (lambda x: x * number)
        return r.builder.curve(curve, values, site)
    if len(values) < 2 or layer.numbers:
        raise Refused("it combines other values than the outputs of layers")
    return r.builder.merge(combine, values, Site(site.scope, "", "", layer.kind))


@_handles("Concatenate")
def _concatenate(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    if layer.config.get("axis", -1) not in (-1, len(values[0].shape)):
        raise Refused("a concatenation along another axis than the channels")
    return r.builder.merge("concat", values, Site(site.scope, "", "", layer.kind))


@_handles("Flatten")
def _flatten(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    value = values[0]
    index = np.arange(int(np.prod(value.shape))).reshape(value.shape)
    return r.builder.rearrange(value, (np.moveaxis(index, 0, -1) if index.ndim == 3 else index).reshape(-1), site)


@_handles("Reshape")
def _reshape(r: _Reader, layer: KerasLayer, values: Sequence[Value], site: Site) -> Value:
    value, target = values[0], [int(size) for size in layer.config["target_shape"]]
    index = np.arange(int(np.prod(value.shape))).reshape(value.shape)
    shaped = (np.moveaxis(index, 0, -1) if index.ndim == 3 else index).reshape(target)
    return r.builder.rearrange(value, np.moveaxis(shaped, -1, 0) if shaped.ndim == 3 else shaped, site)
