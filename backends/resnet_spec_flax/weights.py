"""Set and read the canonical weights of a Flax model. Flax has other names, and keeps channels last."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array, collect_weights, match_weights
from resnet_spec_flax.modules import FrozenModel, ResNet, get_submodule, layers_of


def fill(model: ResNet, weights: dict[str, Array]) -> None:
    """Set the weights of a model that has abstract ones; remove each from ``weights``, so that memory holds it once."""
    for name, variable in named_variables(model).items():
        variable.set_value(jax.device_put(with_native_axes(weights.pop(name))))


def dump(model: ResNet | FrozenModel) -> dict[str, Array]:
    """Return the canonical weights, bit for bit, as copies."""
    return {name: to_canonical(variable.get_value()) for name, variable in named_variables(layers_of(model)).items()}


def load(model: ResNet | FrozenModel, weights: Mapping[str, Array]) -> None:
    """Set all weights. Raises WeightsError, before any is set, if they do not fit."""
    layers = layers_of(model)
    variables = named_variables(layers)
    shapes = {name: _to_canonical_shape(variable.get_value().shape) for name, variable in variables.items()}
    matched = match_weights(shapes, weights)
    for name, variable in variables.items():
        old = variable.get_value()
        array = np.asarray(with_native_axes(matched[name]), old.dtype)
        variable[...] = jax.device_put(array, old.sharding if old.committed else None)
    if isinstance(model, FrozenModel):
        model.set_layers(layers)


def named_variables(model: ResNet) -> dict[str, nnx.Variable[Any]]:
    """Return a model's parameters and running statistics by canonical name. Raises WeightsError if one is missing."""
    return collect_weights(model.network, partial(_find_variable, model))


_STATISTICS = {"running_mean": "mean", "running_var": "var"}


def _find_variable(model: ResNet, name: str) -> nnx.Variable[Any] | None:
    path, _, last = name.rpartition(".")
    try:
        module = get_submodule(model, path)
    except AttributeError:
        return None
    # A weight may have its own name; others have NNX's.
    native = ("kernel", "scale") if last == "weight" else (_STATISTICS.get(last, last),)
    variables = (getattr(module, attribute, None) for attribute in (last, *native))
    return next((variable for variable in variables if isinstance(variable, nnx.Variable)), None)


def to_canonical(array: jax.Array) -> Array:
    """Return a weight in PyTorch's layout, as a copy; bfloat16 is ml_dtypes'."""
    return np.array(with_canonical_axes(np.asarray(array)), order="C")


def with_canonical_axes(weight: Any) -> Any:
    """Return a weight of Flax's layout with its axes in PyTorch's order."""
    match weight.ndim:
        case 4:  # (height, width, in, out) -> (out, in, height, width)
            return weight.transpose(3, 2, 0, 1)
        case 2 | 3:  # (in, out) -> (out, in), and (length, in, out) -> (out, in, length)
            return weight.T
    return weight


def _to_canonical_shape(shape: Shape) -> Shape:
    """Return a shape after ``to_canonical``."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def to_numpy(array: jax.Array) -> Array:
    """Return an array in NumPy; bfloat16, which NumPy lacks, becomes float32, which holds each of its values."""
    return np.asarray(array, np.float32 if array.dtype == jnp.bfloat16 else None)


def with_native_axes(array: Any) -> Any:
    """Return a canonical weight with its axes in Flax's order."""
    match array.ndim:
        case 4:  # (out, in, height, width) -> (height, width, in, out)
            return array.transpose(2, 3, 1, 0)
        case 2 | 3:  # (out, in) -> (in, out), and (out, in, length) -> (length, in, out)
            return array.T
    return array
