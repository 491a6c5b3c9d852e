"""A network to a Flax module: the tree, part by part, and its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, assert_never

import jax
from flax import nnx

from resnet_spec.backend import BackendError
from resnet_spec.network.execution import held_parts, plan_residual, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import rows_as_written
from resnet_spec.ops import Stochastic
from resnet_spec.weights.canonical import Array
from resnet_spec_flax import modules
from resnet_spec_flax.layers import layer
from resnet_spec_flax.weights import fill

Model = TypeVar("Model", bound=modules.ResNet)
Make: TypeAlias = Callable[[Leaf, str], Any]
"""What makes a layer of an operation, for weights of a type."""


def build(network: Network, weights: dict[str, Array], dtype: str) -> modules.ResNet:
    """The network as an nnx.Module in evaluation mode. ``weights`` become its own. Raises BackendError."""
    return filled(modules.ResNet(network), weights, dtype)


def filled(model: Model, weights: dict[str, Array], dtype: str, make: Make = layer) -> Model:
    """A model that holds nothing yet, with what its network says, and its weights. ``make`` makes its layers. Raises BackendError."""
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise BackendError(
            f"JAX makes float32 of {dtype} unless told otherwise, once for the whole process; "
            'set JAX_ENABLE_X64=1, or call jax.config.update("jax_enable_x64", True) first'
        )
    _register(model, "", model.network.parts, dtype, make)
    fill(model, weights)
    if any(isinstance(leaf.op, Stochastic) for leaf in model.network.leaves()):
        nnx.reseed(model, dropout=0)
    return model


def _module(part: Part, dtype: str, make: Make) -> Any:
    match part:
        case Leaf():
            return make(part, dtype)
        case Chain():
            steps = plan_steps(part.path, part.parts)
            kind = modules.Numbered if modules.is_numbered(steps) else modules.Chain
            return _register(kind(part.path, steps), part.path, part.parts, dtype, make)
        case Residual():
            block = modules.Residual(part.path, plan_residual(part))
            for row in rows_as_written(part):
                _register(block, part.path, row, dtype, make)
            return block
        case Parallel():  # its branches are registered beside it
            return modules.Parallel(part.split, part.cascade, part.combine)
        case _:
            assert_never(part)


def _register(holder: nnx.Module, path: str, row: Row, dtype: str, make: Make) -> nnx.Module:
    """Register the parts that a module at a path holds, under their names below that path; return the module."""
    for (*outer, name), part in held_parts(path, row):
        module = holder
        for step in outer:
            if step not in vars(module):
                _set(module, step, nnx.Dict())
            module = getattr(module, step)
        _set(module, name, _module(part, dtype, make))
    return holder


def _set(module: nnx.Module, name: str, child: Any) -> None:
    if hasattr(module, name):  # nnx would hide its own method by the layer, and say nothing
        raise BackendError(f"{type(module).__name__} has a {name!r} of its own in Flax, so no layer can be called that")
    setattr(module, name, child)
