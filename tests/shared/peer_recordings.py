"""What other libraries ship, as recorded from them: names, shapes and outputs to compare ours with.

``tests/data/goldens.json`` holds logits of theirs, in float64, under weights that ``resnet_spec.weights.canonical.comparison_weights`` makes as well.
"""

from __future__ import annotations

import gzip
import json
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
    """The recorded outputs by registry and name."""
    files = [DATA / "goldens_torchvision.json", DATA / "goldens.json"]
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["models"]]
    return {(row["registry"], row["name"]): row for row in rows}


@cache
def zoo_goldens() -> list[dict[str, Any]]:
    """Outputs of timm's, torchvision's and PaddleClas's other families and options, with the ``settings`` that each was made with."""
    files = [DATA / "goldens_zoo.json", DATA / "goldens_paddleclas.json"]
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["models"]]


@cache
def models() -> dict[tuple[str, str], dict[str, Any]]:
    """The inventory: parameters and more, by registry and name."""
    rows = json.loads((DATA / "peer_models.json").read_text(encoding="utf-8"))["models"]
    return {(row["registry"], row["name"]): row for row in rows}


@cache
def state_dicts() -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """Names and shapes in order, by registry/name, less torch's own count of batches."""
    with gzip.open(DATA / "peer_state_dicts.json.gz", "rt", encoding="utf-8") as file:
        found = json.load(file)
    return {
        model: [(name, tuple(shape)) for name, shape in rows if not name.endswith("num_batches_tracked")]
        for model, rows in found.items()
    }


def images(row: dict[str, Any]) -> Array:
    """The images that a golden row was computed from."""
    return np.random.default_rng(0).standard_normal(row["input"])


def difference(logits: Array, row: dict[str, Any]) -> float:
    """How far logits are from a golden row, relative to the row's length: the worst of its eight logits, sum and length."""
    length = float(row["l2"])
    first = np.abs(logits[0, :8].astype(np.float64) - np.array(row["logits8"])).max()
    total = abs(float(logits.sum(dtype=np.float64)) - row["sum"])
    return float(max(first, total, abs(float(np.sqrt((logits.astype(np.float64) ** 2).sum())) - length))) / max(
        1.0, length
    )
