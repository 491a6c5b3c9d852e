"""Canonical weights into a Flax model and out of it. Flax has its own names, and the channels last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_spec.weights.canonical import Array, match_weights
from resnet_spec_flax.modules import ResNet, below


def fill(model: ResNet, weights: dict[str, Array]) -> None:
    """Give the arrays to a model whose weights are still abstract, as its own memory, taking each out of ``weights``."""
    for name, variable in variables(model).items():
        variable.set_value(jax.device_put(_native(weights.pop(name))))


def dump(model: ResNet) -> dict[str, Array]:
    """The canonical weights, bit for bit, as copies."""
    return {name: canonical(variable.get_value()) for name, variable in variables(model).items()}


def load(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Set all weights. Raises WeightsError, before anything is set, if they do not fit."""
    given = match_weights(model.network.weights(), weights)
    for name, variable in variables(model).items():
        old = variable.get_value()
        array = np.asarray(_native(given[name]), old.dtype)
        variable[...] = jax.device_put(array, old.sharding if old.committed else None)


def variables(model: ResNet) -> dict[str, nnx.Variable[Any]]:
    """A model's parameters and statistics by canonical name."""
    found = {}
    for name in model.network.weights():
        path, _, last = name.rpartition(".")
        module = below(model, path)
        match last:
            case "weight":
                found[name] = module.kernel if hasattr(module, "kernel") else module.scale
            case "running_mean":
                found[name] = module.mean
            case "running_var":
                found[name] = module.var
            case _:
                found[name] = getattr(module, last)
    return found


def canonical(array: jax.Array) -> Array:
    """A weight in PyTorch's layout, as a copy."""
    given = plain(array)
    match given.ndim:
        case 4:  # (height, width, in, out) -> (out, in, height, width)
            given = given.transpose(3, 2, 0, 1)
        case 2 | 3:  # (in, out) -> (out, in), and (length, in, out) -> (out, in, length)
            given = given.T
    return np.array(given, order="C")


def plain(array: jax.Array) -> Array:
    """An array in NumPy, which has no bfloat16: float32 holds its every value."""
    return np.asarray(array, np.float32 if array.dtype == jnp.bfloat16 else None)


def _native(array: Array) -> Array:
    """A weight in Flax's layout."""
    match array.ndim:
        case 4:  # (out, in, height, width) -> (height, width, in, out)
            return array.transpose(2, 3, 1, 0)
        case 2 | 3:  # (out, in) -> (in, out), and (out, in, length) -> (length, in, out)
            return array.T
    return array
