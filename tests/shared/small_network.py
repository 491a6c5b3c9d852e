"""A small network and files of weights, for tests of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from resnet_spec import load, loads
from resnet_spec.weights.canonical import Array, comparison_weights

SMALL = """
name: small
takes: {classes: 10}
input: [3, 32, 32]
stem: {conv1: {op: conv, out: 8, kernel: 3}, bn1: norm}
stages:
  layer1: {block: basic, depth: 1, out: 8}
  layer2: {block: basic, depth: 2, out: 16, stride: 2}
head: {pool: global_avg_pool, fc: {op: linear, out: classes}}
"""


def make_weights() -> dict[str, Array]:
    """Return weights for the small network, all of them random."""
    return {name: array.astype(np.float32) for name, array in comparison_weights(loads(SMALL)).items()}


def to_torch(weights: Mapping[str, Array]) -> dict[str, Any]:
    """Convert arrays to PyTorch tensors."""
    import torch

    return {name: torch.from_numpy(array) for name, array in weights.items()}


def save_zeros(
    path: Path, spec: str, change: Callable[[dict[str, Array]], object] | None = None, **settings: int
) -> Path:
    """Save zeros for all weights of a network, after ``change`` has modified them in place; return the path."""
    shapes = load(spec, input=None, outputs=None, **settings).weights()
    weights: dict[str, Array] = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    if change is not None:
        change(weights)
    save_file(weights, path)
    return path
