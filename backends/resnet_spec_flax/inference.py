"""Build a Flax model for inference only. Compiled, it is one function of jax.jit, without the overhead of nnx.jit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from flax import nnx

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_flax import matmul_conv
from resnet_spec_flax.build import populate
from resnet_spec_flax.modules import OutputHook, ResNet


def build_inference(network: Network, weights: dict[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as an nnx.Module for inference only. It empties ``weights``. Raises BackendError."""
    # NumPy has no bfloat16; JAX defines the dtype.
    converted = {name: weights.pop(name).astype(jnp.dtype(dtype), copy=False) for name in [*weights]}
    return populate(Inference(network, compile), converted, dtype, matmul_conv.make_layer)


class Inference(ResNet):
    """A network that takes images of any dtype, and returns outputs of the images' dtype.

    If it is ``compiled``, a call runs a function made by jax.jit, which is compiled once for each shape of the images.
    Inside another transformation, the modules are traced instead.
    """

    def __init__(self, network: Network, compiled: bool) -> None:
        super().__init__(network)
        self._compiled = compiled
        self._evaluator = nnx.static(Evaluator())

    def __call__(self, images: jax.Array, hook: OutputHook | None = None) -> Any:
        if not self._compiled or hook is not None or isinstance(images, jax.core.Tracer):
            return self._run_modules(images, hook)
        return self._evaluator(self, images)

    def _run_modules(self, images: jax.Array, hook: OutputHook | None = None) -> Any:
        like = next(iter(jax.tree.leaves(nnx.state(self, nnx.Param))), images)
        outputs = super().__call__(images.astype(like.dtype), hook)
        return jax.tree.map(lambda x: x.astype(images.dtype), outputs)


class Evaluator:
    """The compiled function of a model, made anew when what the model holds has changed.

    To compare the model's contents with those of the last call takes tens of microseconds. nnx.jit describes the whole
    model at each call, which takes milliseconds.
    """

    def __init__(self) -> None:
        self.compiled: Compiled | None = None
        self.lock = Lock()

    def __call__(self, model: Inference, images: jax.Array) -> Any:
        with self.lock:
            contents = tuple(_iter_contents(model))
            if self.compiled is None or not _are_same(contents, self.compiled.contents):
                self.compiled = _compile(model, contents)
            function, arguments = self.compiled.function, self.compiled.update_arguments()
        return function(arguments, images)

    def __reduce__(self) -> tuple[type[Evaluator], tuple[()]]:
        return Evaluator, ()  # compiled functions cannot be pickled, so a copy compiles its own


@dataclass(eq=False)
class Compiled:
    """A compiled function, and the arguments that it takes for the variables of a model."""

    contents: tuple[Any, ...]
    """What the model and its modules held when the function was made."""
    function: Callable[..., Any]
    variables: tuple[nnx.Variable[Any], ...]
    """The variables whose values are the function's arguments, in order."""
    winograd_indices: frozenset[int]
    """Which variables are kernels that the function takes in Winograd form."""
    values: list[Any]
    """The value of each variable at the last call."""
    arguments: list[Any]
    """The argument made of each value."""

    def update_arguments(self) -> list[Any]:
        """Return the arguments for the variables' present values, as a list that later calls leave alone."""
        for index, variable in enumerate(self.variables):
            value = variable.get_raw_value()
            if value is not self.values[index]:
                # A mutable array stays the same object when its value changes, so its Winograd form would become stale.
                transforms = index in self.winograd_indices and isinstance(value, jax.Array)
                self.values[index] = value
                self.arguments[index] = matmul_conv.winograd_kernel(value) if transforms else value
        return [*self.arguments]


def _compile(model: Inference, contents: tuple[Any, ...]) -> Compiled:
    graph, state = nnx.split(model)
    leaves, structure = jax.tree.flatten(state)
    by_array = {id(value.get_value()): value for value in contents if isinstance(value, nnx.Variable)}
    variables = tuple(by_array[id(leaf)] for leaf in leaves)
    convolutions = (module for module in contents if isinstance(module, matmul_conv.Conv2d))
    kernels = {id(module.kernel) for module in convolutions if module.uses_winograd}
    winograd_indices = frozenset(index for index, variable in enumerate(variables) if id(variable) in kernels)

    def evaluate(leaves: list[jax.Array], images: jax.Array) -> Any:
        return nnx.merge(graph, jax.tree.unflatten(structure, leaves))._run_modules(images)

    unknown: list[Any] = [None] * len(leaves)
    return Compiled(contents, jax.jit(evaluate), variables, winograd_indices, unknown, [*unknown])


def _are_same(contents: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    return len(contents) == len(before) and all(map(_is_same, contents, before))


def _is_same(value: Any, before: Any) -> bool:
    """Return whether a module still holds a value: the same object, or an equal one that is no module or variable.

    nnx's own transformations replace plain attributes by equal copies.
    """
    return value is before or (
        not isinstance(value, nnx.Module | nnx.Variable) and type(value) is type(before) and value == before
    )


def _iter_contents(module: nnx.Module) -> Iterator[Any]:
    """Yield everything that a module and those inside it hold, except for nnx's own bookkeeping.

    The order is by name, since nnx changes the order in which attributes are set.
    """
    for name, value in sorted(vars(module).items()):
        if name.startswith("_pytree__"):
            continue
        yield value
        if isinstance(value, nnx.Module):
            yield from _iter_contents(value)
