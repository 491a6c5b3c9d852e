"""A model to evaluate alone: called on images it runs as one compiled function, without nnx.jit's way through the modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from flax import nnx

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_flax import quick
from resnet_spec_flax.build import filled
from resnet_spec_flax.modules import ResNet, Tap


def optimized(network: Network, weights: dict[str, Array], dtype: str, *, compile: bool) -> Inference:
    """A folded network as an nnx.Module that evaluates alone. ``weights`` become its own. Raises BackendError."""
    rounded = {name: weights.pop(name).astype(jnp.dtype(dtype), copy=False) for name in [*weights]}  # bfloat16 is JAX's
    return filled(Inference(network, compile), rounded, dtype, quick.layer)


class Inference(ResNet):
    """A network that takes images of any type, and gives its outputs in the images' type.

    If it is ``compiled``, calling it is calling a function made by jax.jit, once for each shape of images; under another
    transformation it is the modules that are traced.
    """

    def __init__(self, network: Network, compiled: bool) -> None:
        super().__init__(network)
        self._compiled = compiled
        self._evaluator = nnx.static(Evaluator())

    def __call__(self, images: jax.Array, tap: Tap | None = None) -> Any:
        if not self._compiled or tap is not None or isinstance(images, jax.core.Tracer):
            return self._plain(images, tap)
        return self._evaluator(self, images)

    def _plain(self, images: jax.Array, tap: Tap | None = None) -> Any:
        like = next(iter(jax.tree.leaves(nnx.state(self, nnx.Param))), images)
        given = super().__call__(images.astype(like.dtype), tap)
        return jax.tree.map(lambda x: x.astype(images.dtype), given)


@dataclass(eq=False)
class Evaluator:
    """The compiled function of a model, and what it was made from.

    Comparing that with what the model holds now takes tens of microseconds; nnx.jit, which describes the whole model anew, takes
    milliseconds.
    """

    made_from: tuple[Any, ...] = ()
    variables: tuple[nnx.Variable[Any], ...] = ()
    turned: frozenset[int] = frozenset()
    """Which variables are kernels that the function takes turned."""
    function: Callable[..., Any] | None = None
    seen: list[Any] = field(default_factory=list)
    """What each variable held at the last call, and what the function was given for it."""
    given: list[Any] = field(default_factory=list)

    def __call__(self, model: Inference, images: jax.Array) -> Any:
        held = tuple(_held(model))
        if len(held) != len(self.made_from) or not all(map(_same, held, self.made_from)):
            self._make(model, held)
        assert self.function is not None
        for number, variable in enumerate(self.variables):
            value = variable.get_raw_value()
            if value is not self.seen[number]:
                # A reference's value may change, and it stays the same reference: it is not turned.
                turns = number in self.turned and isinstance(value, jax.Array)
                self.seen[number], self.input_shape[number] = value, quick.turned(value) if turns else value
        return self.function(self.input_shape, images)

    def __reduce__(self) -> tuple[type[Evaluator], tuple[()]]:
        return Evaluator, ()  # a copy compiles for itself: what is compiled can't be pickled

    def _make(self, model: Inference, held: tuple[Any, ...]) -> None:
        definition, state = nnx.split(model)
        leaves, structure = jax.tree.flatten(state)
        by_array = {id(value.get_value()): value for value in held if isinstance(value, nnx.Variable)}
        self.variables = tuple(by_array[id(leaf)] for leaf in leaves)
        kernels = {id(module.kernel) for module in held if isinstance(module, quick.Conv2d) and module.turns}
        self.turned = frozenset(number for number, variable in enumerate(self.variables) if id(variable) in kernels)
        self.seen, self.input_shape = [None] * len(leaves), [None] * len(leaves)
        self.made_from = held

        def evaluate(leaves: list[jax.Array], images: jax.Array) -> Any:
            return nnx.merge(definition, jax.tree.unflatten(structure, leaves))._plain(images)

        self.function = jax.jit(evaluate)


def _same(one: Any, other: Any) -> bool:
    """Whether a module holds what it held: nnx's own transformations leave equal arguments in place of the same."""
    return one is other or (
        not isinstance(one, nnx.Module | nnx.Variable) and type(one) is type(other) and one == other
    )


def _held(module: nnx.Module) -> Iterator[Any]:
    """All that a module and those beneath it hold; but not nnx's own notes, nor in the order that they were set, which it changes."""
    for name, value in sorted(vars(module).items()):
        if name.startswith("_pytree__"):
            continue
        yield value
        if isinstance(value, nnx.Module):
            yield from _held(value)
