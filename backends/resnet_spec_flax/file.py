"""Write a model as a StableHLO program, by jax.export: its evaluation, or a training step.

Arrays are as everywhere outside of Flax: images and maps (batch, channels, height, width), and weights under canonical
names in PyTorch's layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import export as jax_export

from resnet_spec.backend import BackendError, ExportOptions
from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.ops import Stochastic
from resnet_spec_flax.custom_layers import FlattenChannelsFirst
from resnet_spec_flax.modules import ResNet
from resnet_spec_flax.run import copy_in_mode
from resnet_spec_flax.weights import named_variables, with_canonical_axes, with_native_axes

ArraysByName: TypeAlias = dict[str, jax.Array]

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""Where a serialized program runs."""

TEXT_SUFFIX = ".mlir"
"""The suffix of a file with the program's text, for compilers other than JAX."""


def export(model: ResNet, path: Path, options: ExportOptions) -> list[Path]:
    """Write a program for JAX, or its text if the file's suffix is TEXT_SUFFIX; return the file.

    ``jax.export.deserialize(data).call`` is the program. An evaluation holds the weights; ``make_step`` says what a
    training step takes. Raises ValueError if a network with several outputs is to be trained.
    """
    is_text = path.suffix == TEXT_SUFFIX
    (batch,) = jax_export.symbolic_shape("batch") if options.batch is None else (options.batch,)
    function, arguments = (make_step if options.training_step else make_evaluation)(model, batch)
    with jax.default_matmul_precision("highest"):
        # A program for several platforms takes the platform as an argument, which other compilers do not expect.
        program = jax_export.export(jax.jit(function), platforms=PLATFORMS[:1] if is_text else PLATFORMS)(*arguments)
    write_file(path, str(program.mlir_module()) if is_text else _serialize(program))
    return [path]


def _serialize(program: jax_export.Exported) -> bytes:
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise BackendError(
            f"a StableHLO program needs {error.name}, which is not installed; try: pip install 'resnet-spec[flax]'"
        ) from error


Program: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function, and the shapes and types of its arguments."""


def make_evaluation(model: ResNet, batch: Any) -> Program:
    """Return the function that maps images to the network's output, or to a tuple of its outputs."""
    graph, state = nnx.split(copy_in_mode(model, train=False))

    def evaluate(images: jax.Array) -> Any:
        return jax.tree.map(_channels_first, nnx.merge(graph, state)(images.transpose(0, 2, 3, 1)))

    return evaluate, (jax.ShapeDtypeStruct((batch, *model.network.input), _dtype_of(model)),)


def make_step(model: ResNet, batch: Any) -> Program:
    """Return a step of stochastic gradient descent: a function of arrays by name, which returns new ones and the loss.

    Its arguments are the weights and running statistics, the velocities of the parameters (zeros at first), images,
    class numbers (batch,) in int32, the rate, the momentum, the weight decay, and a seed in uint32 for dropout, which
    must be another one at each step. It returns the new weights, the new velocities and the mean cross-entropy.
    """
    if model.network.outputs:
        raise ValueError(f"{model.network.name} has outputs of its own, so no loss is defined for a training step")
    graph, state = nnx.split(copy_in_mode(model, train=True))
    is_random = any(isinstance(leaf.op, Stochastic) for leaf in model.network.leaves())
    names = [name for name, weight in model.network.owners() if not weight.statistic]

    def step(
        weights: ArraysByName,
        velocities: ArraysByName,
        images: jax.Array,
        labels: jax.Array,
        rate: jax.Array,
        momentum: jax.Array,
        weight_decay: jax.Array,
        seed: jax.Array,
    ) -> tuple[ArraysByName, ArraysByName, jax.Array]:
        trained = nnx.merge(graph, state, copy=True)  # its variables are set, which belong to another trace
        for name, variable in named_variables(trained).items():
            variable.set_value(with_native_axes(weights[name]))
        if is_random:
            nnx.reseed(trained, dropout=jax.random.key(seed))
        loss, gradients = _differentiate(trained, images.transpose(0, 2, 3, 1), labels)
        new_velocities = {
            name: momentum * velocities[name] + gradients[name] + weight_decay * weights[name] for name in names
        }
        statistics = _read_arrays(trained)  # after the pass; those of parameters are replaced below
        parameters = {name: weights[name] - rate * new_velocities[name] for name in names}
        return statistics | parameters, new_velocities, loss

    dtype = _dtype_of(model)
    shapes = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in model.network.weights().items()}
    images = jax.ShapeDtypeStruct((batch, *model.network.input), dtype)
    labels, scalar = jax.ShapeDtypeStruct((batch,), "int32"), jax.ShapeDtypeStruct((), dtype)
    velocities = {name: shapes[name] for name in names}
    seed = jax.ShapeDtypeStruct((), "uint32")
    return step, (shapes, velocities, images, labels, scalar, scalar, scalar, seed)


def _differentiate(model: ResNet, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, ArraysByName]:
    """Return the loss and the gradient of each parameter by name. The model's running statistics are updated."""

    def compute_loss(model: ResNet) -> jax.Array:
        logits = FlattenChannelsFirst()(model(images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = nnx.value_and_grad(compute_loss, argnums=nnx.DiffState(0, nnx.Param))(model)
    twin = nnx.clone(model)
    nnx.update(twin, gradients)
    return loss, _read_arrays(twin)


def _read_arrays(model: ResNet) -> ArraysByName:
    return {name: with_canonical_axes(variable.get_value()) for name, variable in named_variables(model).items()}


def _channels_first(x: jax.Array) -> jax.Array:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def _dtype_of(model: ResNet) -> Any:
    return next((leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))), jnp.float32)
