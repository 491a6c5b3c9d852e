"""Build a Flax module from a network: its layers part by part, then its weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, assert_never

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_spec.backend import BackendError
from resnet_spec.network.execution import held_parts, own_weight, plan_parallel, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.ops import Stochastic
from resnet_spec.weights.canonical import Array
from resnet_spec_flax import modules
from resnet_spec_flax.layers import make_layer
from resnet_spec_flax.weights import fill

LayerFactory: TypeAlias = Callable[[Leaf, str], Any]
"""A function that makes the layer of an operation, with weights of a dtype."""


def build(network: Network, weights: dict[str, Array], dtype: str, compute: str | None = None) -> modules.ResNet:
    """Return the network as an nnx.Module in evaluation mode. It empties ``weights``. Raises BackendError.

    With ``compute``, layers compute in that 16-bit type, as those of Flax do that have a ``dtype`` of their own.
    """
    if compute is None:
        return populate(modules.ResNet(network), weights, dtype)
    return populate(modules.MixedResNet(network), weights, dtype, partial(make_layer, compute=compute))


def populate(
    model: modules.ResNet, weights: dict[str, Array], dtype: str, make_layer: LayerFactory = make_layer
) -> modules.ResNet:
    """Set the layers of an empty model's network and their weights; return the model in evaluation mode.

    Raises BackendError if JAX does not support the dtype, or if a part's name is an attribute of its module.
    """
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise BackendError(
            f"JAX turns {dtype} into float32 unless 64-bit types are enabled for the whole process; "
            'set JAX_ENABLE_X64=1, or call jax.config.update("jax_enable_x64", True) first'
        )
    _register(model, "", model.network.parts, dtype, make_layer)
    fill(model, weights)
    reseed(model, 0)
    return model


def reseed(model: modules.ResNet, seed: int) -> None:
    """Set the state of the random numbers that dropout draws, which each layer of a Flax model holds for itself."""
    if any(isinstance(leaf.op, Stochastic) for leaf in model.network.leaves()):
        nnx.reseed(model, dropout=seed % 2**31)


def _make_module(part: Part, dtype: str, make_layer: LayerFactory) -> Any:
    match part:
        case Leaf():
            return make_layer(part, dtype)
        case Chain():
            steps = plan_steps(part.path, part.parts)
            kind = modules.Numbered if modules.is_numbered(steps) else modules.Chain
            return _register(kind(part.path, steps), part.path, part.written_rows[0], dtype, make_layer)
        case Residual():
            block = modules.Residual(part.path, plan_residual(part))
            for row in part.written_rows:
                _register(block, part.path, row, dtype, make_layer)
            return block
        case Parallel():  # held_parts lists its branches after it, and the same holder registers them
            return modules.Parallel(plan_parallel(part))
        case _:
            assert_never(part)


def _register(holder: nnx.Module, path: str, row: Row, dtype: str, make_layer: LayerFactory) -> nnx.Module:
    """Set a row of parts in the module at a path, by their names relative to it; return the module."""
    for (*outer, name), part in held_parts(path, row):
        module = holder
        for step in outer:
            if step not in vars(module):
                _set_child(module, step, nnx.Dict())
            module = getattr(module, step)
        weight = own_weight(part)
        if weight:
            _set_child(module, weight, nnx.Param(jnp.zeros(())))
        _set_child(module, name, _make_module(part, dtype, make_layer))
    return holder


def _set_child(module: nnx.Module, name: str, child: Any) -> None:
    if hasattr(module, name):  # nnx would silently hide its own method behind the layer
        raise BackendError(
            f"{type(module).__name__} has an attribute {name!r} in Flax, so no layer of it can have that name"
        )
    setattr(module, name, child)


def finds_accelerator() -> bool:
    """Return whether the framework can compute on more than the CPU."""
    return jax.default_backend() != "cpu"
