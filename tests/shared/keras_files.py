"""Small Keras models as files, written by Keras' conventions: a functional one, in both formats."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.weights.canonical import Array


def _layer(kind: str, name: str, inputs: list[str], **config: Any) -> dict[str, Any]:
    references = [[[source, 0, 0, {}] for source in inputs]] if inputs else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": references}


def small_model(**changes: Any) -> tuple[dict[str, Any], dict[str, list[Array]]]:
    """Return the configuration of a residual network with a flattened map and a softmax, and its weights in order."""
    rng = np.random.default_rng(0)
    conv = {"padding": "same", "use_bias": False, "activation": "linear"}
    layers = [
        _layer("InputLayer", "images", [], batch_shape=[None, 8, 8, 3]),
        _layer("Conv2D", "stem_conv", ["images"], **{**conv, "strides": [2, 2]}),
        _layer("BatchNormalization", "stem_bn", ["stem_conv"], epsilon=1e-3, momentum=0.99, axis=[3]),
        _layer("Activation", "stem_relu", ["stem_bn"], activation="relu"),
        _layer("Conv2D", "block1_a", ["stem_relu"], **{**conv, "use_bias": True, "activation": "relu"}),
        _layer("Conv2D", "block1_b", ["block1_a"], **conv),
        _layer("Add", "block1_add", ["stem_relu", "block1_b"]),
        _layer("ZeroPadding2D", "pad", ["block1_add"], padding=[[1, 1], [1, 1]]),
        _layer("MaxPooling2D", "pool", ["pad"], pool_size=[3, 3], strides=[2, 2], padding="valid"),
        _layer("Flatten", "flat", ["pool"]),
        _layer("Dropout", "drop", ["flat"], rate=0.25),
        _layer("Dense", "scores", ["drop"], use_bias=True, activation="softmax"),
    ]
    for layer in layers:
        if layer["name"] in changes:
            layer.update(changes[layer["name"]])
    weights = {
        "stem_conv": [rng.standard_normal((3, 3, 3, 4)) / 5],
        "stem_bn": [*(rng.uniform(0.5, 1.5, 4) for _ in range(2)), rng.standard_normal(4), rng.uniform(0.5, 1.5, 4)],
        "block1_a": [rng.standard_normal((3, 3, 4, 4)) / 6, rng.standard_normal(4)],
        "block1_b": [rng.standard_normal((3, 3, 4, 4)) / 6],
        "scores": [rng.standard_normal((16, 5)), rng.standard_normal(5)],
    }
    config = {
        "name": "small",
        "layers": layers,
        "input_layers": [["images", 0, 0]],
        "output_layers": [["scores", 0, 0]],
    }
    return {"class_name": "Functional", "config": config}, weights


def write_keras_file(path: Path, config: dict[str, Any], weights: dict[str, list[Array]]) -> Path:
    """Write a model to a .keras archive or an .h5 file. Skips the test if h5py is not installed."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(config)
            for name, arrays in weights.items():
                group = file.create_group(f"model_weights/{name}")
                keys = [f"{name}/{index}" for index in range(len(arrays))]
                group.attrs["weight_names"] = [key.encode() for key in keys]
                for key, array in zip(keys, arrays, strict=True):
                    group[key] = array
        return path
    data = io.BytesIO()
    counts: dict[str, int] = {}
    with h5py.File(data, "w") as file:
        for layer in config["config"]["layers"]:  # in Keras 3 a layer is known by its class and its number
            stem = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}.get(layer["class_name"])
            stem = stem or layer["class_name"].lower()
            counts[stem] = counts.get(stem, -1) + 1
            group = file.create_group(f"layers/{stem}_{counts[stem]}/vars" if counts[stem] else f"layers/{stem}/vars")
            for index, array in enumerate(weights.get(layer["name"], [])):
                group[str(index)] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", data.getvalue())
    return path
