"""A network to a Flax module: the tree, part by part, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from resnet_spec.backend import BackendError
from resnet_spec.network import Network, Part, Residual, Sequence
from resnet_spec.ops import Dropout
from resnet_spec.spec import Role
from resnet_spec.weights import Array
from resnet_spec_flax import modules
from resnet_spec_flax.layers import layer
from resnet_spec_flax.weights import fill


def build(network: Network, weights: Mapping[str, Array], dtype: str) -> modules.ResNet:
    """The network as an nnx.Module in evaluation mode. ``weights`` become its own. Raises BackendError."""
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise BackendError(
            f"JAX makes float32 of {dtype} unless told otherwise, once for the whole process; "
            'set JAX_ENABLE_X64=1, or call jax.config.update("jax_enable_x64", True) first'
        )
    model = modules.ResNet(network, [part.path for part in network.parts])
    for part in network.parts:
        _attach(model, part.path, _module(part, dtype))
    fill(model, weights)
    if any(isinstance(leaf.op, Dropout) for leaf in network.leaves()):
        nnx.reseed(model, dropout=0)
    return model


def _module(part: Part, dtype: str) -> Any:
    match part:
        case Residual():
            sections: dict[Role, list[str]] = {role: _names(part, part.section(role)) for role in part.order}
            module: nnx.Module = modules.Residual(part.path, sections, part.combine)
            children = [child for role in part.order for child in part.section(role)]
        case Sequence():
            module, children = modules.Chain(part.path, _names(part, part.parts)), list(part.parts)
        case _:
            return layer(part, dtype)
    for name, child in zip(_names(part, children), children, strict=True):
        _attach(module, name, _module(child, dtype))
    return module


def _names(parent: Part, parts: tuple[Part, ...] | list[Part]) -> list[str]:
    """The parts' names below their parent's."""
    return [part.path.removeprefix(f"{parent.path}.") for part in parts]


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
