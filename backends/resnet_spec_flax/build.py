"""A network to a Flax module: the tree, part by part, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import jax
from flax import nnx

from resnet_spec.backend import BackendError
from resnet_spec.language.spec import Role
from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
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
    _hold(model, "", model.network.parts, dtype, make)
    fill(model, weights)
    if any(isinstance(leaf.op, Stochastic) for leaf in model.network.leaves()):
        nnx.reseed(model, dropout=0)
    return model


def _module(part: Part, dtype: str, make: Make) -> Any:
    match part:
        case Residual():
            sections: dict[Role, modules.Steps] = {
                role: modules.steps(part.path, part.section(role)) for role in part.order
            }
            module: nnx.Module = modules.Residual(part.path, sections, part.combine, part.reads)
            for role in part.order:
                _hold(module, part.path, part.section(role), dtype, make)
        case Parallel():
            return modules.Parallel(part.split, part.cascade, part.combine)
        case Chain():
            steps = modules.steps(part.path, part.parts)
            chain = modules.Numbered if modules.numbered(steps) else modules.Chain
            module = chain(part.path, steps)
            _hold(module, part.path, part.parts, dtype, make)
        case _:
            return make(part, dtype)
    return module


def _hold(module: nnx.Module, path: str, parts: Iterable[Part], dtype: str, make: Make) -> None:
    """Register parts, and those of branches beside them, under their names below the holder's path."""
    for part in parts:
        _attach(module, modules.name(path, part), _module(part, dtype, make))
        for branch in part.branches if isinstance(part, Parallel) else ():
            _hold(module, path, branch, dtype, make)


def _attach(module: nnx.Module, name: str, child: Any) -> None:
    *path, last = name.split(".")
    for step in path:
        if step not in vars(module):
            _set(module, step, nnx.Dict())
        module = getattr(module, step)
    _set(module, last, child)


def _set(module: nnx.Module, name: str, child: Any) -> None:
    if hasattr(module, name):  # nnx would hide its own method by the layer, and say nothing
        raise BackendError(f"{type(module).__name__} has a {name!r} of its own in Flax, so no layer can be called that")
    setattr(module, name, child)
