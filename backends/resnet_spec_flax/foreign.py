"""Wrap a Flax model that this project did not build, for comparison."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx

from resnet_spec.importing.foreign import ForeignOutputs
from resnet_spec.weights.canonical import Array


class FlaxModel:
    """An nnx.Module, which reads images with their channels last. A copy of it runs in evaluation mode."""

    dtype = "float32"

    def __init__(self, model: object) -> None:
        if not isinstance(model, nnx.Module):
            raise ValueError(f"expected a flax.nnx.Module, got {type(model).__name__}")
        self.name = type(model).__name__
        self.model: Any = nnx.merge(*nnx.split(model))
        self.model.eval()

    def run(self, images: Array, until: str = "") -> ForeignOutputs:
        """Evaluate the model. Flax has no hooks, so only its outputs are known."""
        leaves = [leaf for leaf in jax.tree.leaves(nnx.state(self.model, nnx.Param)) if hasattr(leaf, "dtype")]
        dtype = leaves[0].dtype if leaves else np.float32
        result = self.model(np.ascontiguousarray(images.transpose(0, 2, 3, 1)).astype(dtype))
        arrays = [np.asarray(array, np.float64) for array in jax.tree.leaves(result)]
        return ForeignOutputs(tuple(np.moveaxis(array, -1, 1) if array.ndim == 4 else array for array in arrays))

    def weights(self) -> Any:
        """Return the model itself, whose state the reader of live weights knows."""
        return nnx.state(self.model)
