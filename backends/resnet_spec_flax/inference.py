"""Build a Flax model for inference only: frozen, and if compiled one function of jax.jit, which nnx.jit slows down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.core
import numpy as np
from flax import nnx

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_flax import matmul_conv
from resnet_spec_flax.build import populate
from resnet_spec_flax.modules import FrozenModel, ResNet


def build_inference(network: Network, weights: dict[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as an nnx.Module for inference only. It empties ``weights``. Raises BackendError."""
    return Inference(network, weights, dtype, compile)


class Buffer(nnx.Variable[jax.Array]):
    """A weight of a frozen model. It is no nnx.Param, so that no optimizer trains it."""


class Inference(FrozenModel):
    """A frozen network: it takes images of any dtype, and returns outputs of the images' dtype.

    Its weights are variables beside each other in ``weights``, under the names that they have in Flax's layers; there
    are no layers inside. Every call computes with the variables' present values, so ``nnx.update``, a restored state
    and other devices take effect at once. If the model is compiled, a call runs a function made by jax.jit, which
    compiles it once for each shape of the images; inside another transformation it is traced as a part of that.
    """

    def __init__(self, network: Network, weights: dict[str, Array], dtype: str, compiled: bool) -> None:
        # NumPy has no bfloat16; JAX defines the dtype.
        converted = {name: weights.pop(name).astype(jax.numpy.dtype(dtype), copy=False) for name in [*weights]}
        layers = populate(ResNet(network), converted, dtype, matmul_conv.make_layer)
        program = Program(layers, dtype, compiled)
        buffers = zip(program.names, map(Buffer, program.read(layers)), strict=True)
        for name, value in {"_network": network, "_program": program, "weights": nnx.Dict(buffers)}.items():
            super()._setattr(name, value)

    def __call__(self, images: jax.Array) -> Any:
        return self._program(self._values(), images)

    def _values(self) -> list[jax.Array]:
        held = vars(self.weights)
        return [held[name].get_raw_value() for name in self._program.names]

    def make_layers(self) -> ResNet:
        return self._program.merge(self._values())

    @property
    def is_compiled(self) -> bool:
        return self._program.is_compiled

    def set_layers(self, layers: ResNet) -> None:
        for name, value in zip(self._program.names, self._program.read(layers), strict=True):
            vars(self.weights)[name].set_value(value)

    # -- what changes the model is refused --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        raise _is_frozen(f"its {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise _is_frozen(f"its {name} cannot be deleted")

    def __getattr__(self, name: str) -> Any:
        network: Network | None = self.__dict__.get("_network")
        if network is not None and any(part.path.split(".")[0] == name for part in network.parts):
            raise AttributeError(f"it has no module {name!r} to change: {_FROZEN}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def train(self, **attributes: Any) -> None:
        raise _is_frozen("it cannot be trained")

    def eval(self, **attributes: Any) -> None:
        """Do nothing: a frozen model is always in evaluation mode."""

    def set_attributes(self, *filters: Any, **attributes: Any) -> None:
        raise _is_frozen("its attributes cannot be set")


_FROZEN = 'a model built with mode="inference" is frozen; build it again, or with mode="training" to change or train it'


def _is_frozen(what: str) -> TypeError:
    return TypeError(f"{what}: {_FROZEN}")


class Program:
    """A function of weights and images, which a model and its copies share. It has no weights of its own.

    Attributes:
        names: The names of the weights, in the order in which a call takes their values.
        is_compiled: Whether jax.jit made the function.
    """

    def __init__(self, layers: ResNet, dtype: str, compiled: bool) -> None:
        self._network, self._dtype, self.is_compiled = layers.network, dtype, compiled
        self._graph, state = nnx.split(layers)
        paths, self._structure = jax.tree_util.tree_flatten_with_path(state)
        self.names = tuple(map(_join_path, (path for path, _ in paths)))
        kernels = _find_winograd_kernels(layers) if compiled else ()
        self._winograd_kernels = frozenset(map(self.names.index, kernels))
        self._packed: dict[int, tuple[jax.Array, jax.Array]] = {}
        self._run = _compile(self._evaluate) if compiled else self._evaluate

    def read(self, layers: ResNet) -> list[jax.Array]:
        """Return the values of the weights of such layers."""
        return jax.tree.leaves(nnx.state(layers))

    def merge(self, values: Sequence[jax.Array]) -> ResNet:
        """Return the network as modules with these weights."""
        model: ResNet = nnx.merge(self._graph, jax.tree.unflatten(self._structure, values))
        return model

    def __call__(self, values: list[jax.Array], images: jax.Array) -> Any:
        for index in self._winograd_kernels:
            values[index] = self._pack(index, values[index])
        return self._run(values, images)

    def _pack(self, index: int, value: jax.Array) -> jax.Array:
        """Return a kernel in Winograd form. An array of JAX never changes, so one that was packed before is known."""
        if isinstance(value, jax.core.Tracer):
            return matmul_conv.winograd_kernel(value)
        known = self._packed.get(index)
        if known is None or known[0] is not value:
            known = self._packed[index] = value, matmul_conv.winograd_kernel(value)
        return known[1]

    def _evaluate(self, values: Sequence[jax.Array], images: jax.Array) -> Any:
        x = images.astype(values[0].dtype) if values else images
        return jax.tree.map(lambda y: y.astype(images.dtype), self.merge(values)(x))

    def __deepcopy__(self, memo: object) -> Program:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled functions cannot be pickled, so a copy compiles its own.
        return _rebuild, (self._network, self._dtype, self.is_compiled)


COMMAND_BUFFERS = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONVOLUTION,DYNAMIC_SLICE_FUSION"
}
"""XLA's options for launching all kernels of a network at once on a GPU. By default convolutions are left out."""


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = jax.jit(function, compiler_options=_choose_compiler_options())
    return compiled


@lru_cache
def _choose_compiler_options() -> dict[str, str] | None:
    """Return XLA's options for a GPU, if there is one and this XLA knows them."""
    if jax.default_backend() != "gpu":
        return None
    try:
        jax.jit(lambda x: x + 1, compiler_options=COMMAND_BUFFERS)(1)
    except jax.errors.JaxRuntimeError:
        return None
    return COMMAND_BUFFERS


def _rebuild(network: Network, dtype: str, compiled: bool) -> Program:
    zeros = {name: np.zeros(shape, jax.numpy.dtype(dtype)) for name, shape in network.weights().items()}
    return Program(populate(ResNet(network), zeros, dtype, matmul_conv.make_layer), dtype, compiled)


def _join_path(path: Sequence[Any]) -> str:
    return ".".join(str(key.key) for key in path if hasattr(key, "key"))


def _find_winograd_kernels(layers: ResNet) -> Iterator[str]:
    """Yield the names of the kernels that are computed with in Winograd form."""
    for path, node in nnx.iter_graph(layers):
        if isinstance(node, matmul_conv.Conv2d) and node.uses_winograd:
            yield ".".join(map(str, (*path, "kernel")))
