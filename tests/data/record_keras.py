"""Record keras.applications beyond ResNets: the weights of all networks, and outputs of one of each family.

KERAS_BACKEND=torch python tests/data/record_keras.py tests/data, with torch and Keras 3.15.1: writes keras_cnn.json and
goldens_keras_cnn.json.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import dtypes

from resnet_spec import load
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.peer_recordings import sign_weights

Shape = tuple[int, ...]

# Without TensorFlow, Keras computes norms of every type in float32. Here they are computed in the model's own type.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

FAMILIES: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "vgg": (["VGG16", "VGG19"], [(r"(block\d)_(conv\d)", r"\1.\2")]),
    "densenet": (
        ["DenseNet121", "DenseNet169", "DenseNet201"],
        [(r"(conv\d)_(block\d+)_(.*)", r"\1.\2.\3"), (r"(pool\d)_(bn|conv)", r"\1.\2")],
    ),
    "mobilenet": (["MobileNet"], [(r"conv_(dw|pw)_(\d+)(_bn)?", r"blocks.\2.conv_\1\3")]),
    "mobilenet_v2": (
        ["MobileNetV2"],
        [(r"expanded_conv_(.*)", r"blocks.0.\1"), (r"block_(\d+)_(.*)", r"blocks.\1.\2")],
    ),
    "mobilenet_v3": (
        ["MobileNetV3Small", "MobileNetV3Large"],
        [
            (r"expanded_conv_(\d+)_(.*)", r"expanded_conv.\1.\2"),
            (r"expanded_conv_(.*)", r"expanded_conv.0.\1"),
            (r"(.*)\.squeeze_excite_(.*)", r"\1.squeeze_excite.\2"),
        ],
    ),
    "efficientnet": (
        [f"EfficientNetB{number}" for number in range(8)],
        [(r"(block\d)([a-z])_(.*)", r"\1.{\2}.\3"), (r"(.*)\.se_(.*)", r"\1.se.\2")],
    ),
    "efficientnet_v2": (
        [f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")],
        [(r"(block\d)([a-z])_(.*)", r"\1.{\2}.\3"), (r"(.*)\.se_(.*)", r"\1.se.\2")],
    ),
    "inception_v3": (["InceptionV3"], []),
    "inception_resnet_v2": (["InceptionResNetV2"], [(r"(block\d+)_(\d+)_conv", r"\1.\2.conv")]),
    "xception": (["Xception"], [(r"block(\d+)_(.*)", r"blocks.\1.\2")]),
    "convnext": (
        [f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")],
        [(r"convnext_[a-z]+_(.*)", r"\1"), (r"(stage_\d)_(block_\d+)_(.*)", r"\1.\2.\3")],
    ),
}
"""The models of each family, and how names of its layers become paths: patterns and what replaces them, in order."""

AUTOMATIC = re.compile(r"(conv2d|batch_normalization)(_\d+)?")
"""Names of layers that Keras numbers itself. Such a layer has the path of the spec's layer in the same place."""

ARRAYS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
IN_PARTS = {"depthwise_kernel": "depthwise.weight", "pointwise_kernel": "pointwise.weight"}
UNSCALED = {"beta": "beta", "moving_mean": "moving.running_mean", "moving_variance": "moving.running_var"}
"""Arrays of a norm that has no scale, which is two layers in a spec: the norm, then a shift."""


def create(name: str, **settings: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return a model that outputs logits, without its preprocessing, and its layers and variables as created."""
    created: list[tuple[Any, Any]] = []
    original = keras.layers.Layer.add_weight

    def add_weight(layer: Any, *arguments: Any, **named: Any) -> Any:
        variable = original(layer, *arguments, **named)
        created.append((layer, variable))
        return variable

    function = getattr(keras.applications, name)
    if "include_preprocessing" in inspect.signature(function).parameters:
        settings["include_preprocessing"] = False
    keras.layers.Layer.add_weight = add_weight
    try:
        model = function(weights=None, classifier_activation=None, **settings)
    finally:
        keras.layers.Layer.add_weight = original
    for layer in model.layers:
        if isinstance(layer, keras.layers.Rescaling):
            layer.scale = 1.0
    return model, [pair for pair in created if not isinstance(pair[0], keras.layers.Normalization)]


def canonical_path(layer: str, patterns: list[tuple[str, str]]) -> str:
    """Return the path of a layer for its name in Keras: stage and block are apart, and letters are numbers from 0."""
    for pattern, replacement in patterns:
        layer = re.sub(f"^{pattern}$", replacement, layer)
    return re.sub(r"\{([a-z])\}", lambda match: str(ord(match[1]) - ord("a")), layer)


def canonical_array(layer: Any, variable: Any) -> str:
    """Return the end of a weight's name: what follows the path of its layer."""
    if isinstance(layer, keras.layers.BatchNormalization) and not layer.scale:
        return f".{UNSCALED[variable.name]}"
    if type(layer).__name__ == "LayerScale":
        return ".gamma"
    return "." + {**ARRAYS, **IN_PARTS, "kernel": "weight"}.get(variable.name, variable.name)


def canonical_axes(layer: Any, variable: Any) -> tuple[int, ...]:
    """Return the order of the axes of a variable that makes them PyTorch's."""
    rank = len(variable.shape)
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or variable.name == "depthwise_kernel"
    return {4: (2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1), 2: (1, 0)}.get(rank, tuple(range(rank)))


def weights(family: str, created: list[tuple[Any, Any]], expected: list[str]) -> Iterator[tuple[str, Shape, Any, Any]]:
    """Yield canonical name and shape, layer and variable of every weight in order."""
    for (layer, variable), spec_name in zip(created, [*expected, *[""] * len(created)], strict=False):
        ending = canonical_array(layer, variable)
        path = canonical_path(layer.name, FAMILIES[family][1])
        if AUTOMATIC.fullmatch(layer.name):
            path = spec_name.removesuffix(ending)
        axes = canonical_axes(layer, variable)
        shape = tuple(variable.shape[axis] for axis in axes)
        if variable.name == "depthwise_kernel" or (isinstance(layer, keras.layers.DepthwiseConv2D) and len(axes) == 4):
            shape = (shape[0] * shape[1], 1, *shape[2:])
        yield f"{path}{ending}", shape, layer, variable


def to_keras(array: Array, layer: Any, variable: Any, flattened: Shape | None) -> Array:
    """Return a canonical weight in Keras's layout. ``flattened`` is the shape (C, H, W) that a Flatten layer reads."""
    axes = canonical_axes(layer, variable)
    if flattened is not None and array.ndim == 2:
        array = array.reshape(-1, *flattened).transpose(0, 2, 3, 1)
    array = array.reshape([variable.shape[axis] for axis in axes])
    return array.transpose(np.argsort(axes))


def flattened_shape(model: Any, layer: Any) -> Shape | None:
    """Return the shape (C, H, W) of the map that is flattened for a layer, or None if that reads something else."""
    before = layer.input._keras_history.operation
    if not isinstance(before, keras.layers.Flatten) or not isinstance(layer, keras.layers.Dense):
        return None
    _, height, width, channels = before.input.shape
    return channels, height, width


def family_of(name: str) -> str:
    return next(family for family, (names, _) in FAMILIES.items() if name in names)


def record(name: str) -> dict[str, Any]:
    """Return family, number of parameters, and the signature of the weights' names and shapes in order."""
    family = family_of(name)
    keras.backend.clear_session()
    with keras.device("meta"):
        _, created = create(name)
        rows = list(weights(family, created, list(load(f"keras/{name}").weights())))
    return {
        "family": family,
        "parameters": sum(int(np.prod(shape)) for _, shape, _, variable in rows if variable.trainable),
        "signature": sign_weights((key, shape) for key, shape, _, _ in rows),
    }


def logits(name: str, images: Array) -> Array:
    """Return a model's logits in float64 for the comparison weights of its spec."""
    keras.backend.clear_session()
    _, channels, height, width = images.shape
    network = load(f"keras/{name}", input=(channels, height, width))
    values = comparison_weights(network)
    model, created = create(name, input_shape=(height, width, channels))
    rows = list(weights(family_of(name), created, list(values)))
    assert [(key, shape) for key, shape, _, _ in rows] == list(network.weights().items()), name
    for key, _, layer, variable in rows:
        variable.assign(to_keras(values[key], layer, variable, flattened_shape(model, layer)))
    for layer in model._flatten_layers():
        if hasattr(layer, "epsilon"):
            layer.epsilon = float(np.float32(layer.epsilon))
    return np.asarray(keras.ops.convert_to_numpy(model(images.transpose(0, 2, 3, 1), training=False)))


def record_row(name: str) -> dict[str, Any]:
    """Return the row of a model's output."""
    size = (1, 3, 88, 79) if family_of(name) in ("inception_v3", "inception_resnet_v2", "xception") else (1, 3, 72, 56)
    output = logits(name, np.random.default_rng(0).standard_normal(size))
    total, length = float(output.sum()), float(np.sqrt((output**2).sum()))
    facts = {"registry": "keras", "name": name, "input": size, "family": family_of(name)}
    return {**facts, "logits8": output[0, :8].tolist(), "sum": total, "l2": length}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lines = [
        f" {json.dumps(f'keras/{name}')}: {json.dumps(record(name))}"
        for names, _ in FAMILIES.values()
        for name in names
    ]
    (folder / "keras_cnn.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    keras.config.set_floatx("float64")
    goldens = [f" {json.dumps(record_row(names[0]))}" for names, _ in FAMILIES.values()]
    text = '{"models": [\n' + ",\n".join(goldens) + "\n]}\n"
    (folder / "goldens_keras_cnn.json").write_text(text, encoding="utf-8")
