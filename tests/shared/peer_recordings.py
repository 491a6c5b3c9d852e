"""Recordings of other libraries' models, in ``tests/data``: names, shapes and outputs to compare with.

``goldens.json`` has the logits of their models in float64, for the weights that
``resnet_spec.weights.canonical.comparison_weights`` returns.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from resnet_spec.weights.canonical import Array
from shared.paths import DATA

TORCHVISION = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]


@cache
def goldens() -> dict[tuple[str, str], dict[str, Any]]:
    """Return recorded outputs by registry and name."""
    files = [DATA / "goldens_torchvision.json", DATA / "goldens.json"]
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["models"]]
    return {(row["registry"], row["name"]): row for row in rows}


@cache
def zoo_goldens() -> list[dict[str, Any]]:
    """Return recorded outputs of other families and options, each with the ``settings`` that it was recorded with."""
    files = [DATA / "goldens_zoo.json", DATA / "goldens_paddleclas.json"]
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["models"]]


@cache
def peer_models() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the inventory of models by registry and name, with parameters and other facts."""
    rows = json.loads((DATA / "peer_models.json").read_text(encoding="utf-8"))["models"]
    return {(row["registry"], row["name"]): row for row in rows}


@cache
def peer_state_dicts() -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """Return the names and shapes of weights in order, by registry/name, without PyTorch's count of batches."""
    with gzip.open(DATA / "peer_state_dicts.json.gz", "rt", encoding="utf-8") as file:
        recorded = json.load(file)
    return {
        model: [(name, tuple(shape)) for name, shape in rows if not name.endswith("num_batches_tracked")]
        for model, rows in recorded.items()
    }


@cache
def cnn_models() -> dict[str, dict[str, Any]]:
    """Return family, parameters and the signature of the weights of convolutional networks, by registry/name."""
    models: dict[str, dict[str, Any]] = {}
    for file in ("cnn_models.json", "keras_cnn.json", "paddle_cnn.json"):
        models |= json.loads((DATA / file).read_text(encoding="utf-8"))
    return models


@cache
def cnn_goldens() -> list[dict[str, Any]]:
    """Return recorded outputs of convolutional networks beyond residual ones."""
    files = [DATA / f"goldens_{name}.json" for name in ("cnn", "keras_cnn", "paddle_cnn")]
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["models"]]


def sign_weights(weights: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Return a hash of the names and shapes of weights in their order."""
    lines = (f"{name} {list(shape)}" for name, shape in weights)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def make_images(row: dict[str, Any]) -> Array:
    """Return the images for which an output was recorded."""
    return np.random.default_rng(0).standard_normal(row["input"])


def relative_difference(logits: Array, row: dict[str, Any]) -> float:
    """Return the largest difference from a recorded output, relative to the length of that.

    An output is recorded as its first eight logits, their sum, and their length (L2 norm).
    """
    length = float(row["l2"])
    first = np.abs(logits[0, :8].astype(np.float64) - np.array(row["logits8"])).max()
    total = abs(float(logits.sum(dtype=np.float64)) - row["sum"])
    norm = abs(float(np.sqrt((logits.astype(np.float64) ** 2).sum())) - length)
    return float(max(first, total, norm)) / max(1.0, length)
