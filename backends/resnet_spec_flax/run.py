"""Evaluate a Flax model, capture its parts' outputs, compute gradients, train one step. Arrays are NumPy's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from resnet_spec.backend import OUTPUT, SGD, BackendError, TrainingStep
from resnet_spec.weights.canonical import Array
from resnet_spec_flax.custom_layers import FlattenChannelsFirst
from resnet_spec_flax.modules import FrozenModel, ResNet, layers_of, run_part
from resnet_spec_flax.weights import named_variables, to_canonical, to_numpy

ArraysByPath: TypeAlias = dict[str, jax.Array]
"""Outputs by path, or their gradients."""

GraphDef: TypeAlias = nnx.GraphDef[ResNet]
State: TypeAlias = nnx.State[Any, Any]

INPUT = "input"
"""The path of the images' gradient."""

MAX_COMPILED_PARTS = 2000
"""A network with more parts is not compiled as a whole: its operations are compiled and run one by one.

To compile for the outputs of all parts, XLA takes 3 seconds for the 400 of a resnet110, and 147 seconds and 12 GB for
the 4,214 of a resnet1202. One by one, the latter, a training pass and five steps take 250 seconds in all, and 1.6 GB.
"""


def move(model: ResNet | FrozenModel, device: str) -> None:
    """Move a model's variables to a device. Raises BackendError, without changing the model, if there is none."""
    kind, _, number = device.partition(":")
    try:
        place = jax.devices(kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise BackendError(f"JAX has no device {device!r} here: {reason}") from None
    nnx.update(model, jax.device_put(nnx.state(model), place))


def run(
    model: ResNet | FrozenModel, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change.
    """
    layers = _layers_to_train(model) if train else layers_of(model)
    x = _to_native(layers, images)
    with _exact_arithmetic(model):
        if isinstance(model, FrozenModel) and model.is_compiled and not (capture or part):
            result, paths = model(x), model.network.outputs
            outputs = dict(zip(paths, result, strict=True)) if paths else {OUTPUT: result}
        else:
            graph, state = nnx.split(copy_in_mode(layers, train))
            outputs = _run(graph, state, x, frozenset(capture), part)
    own = (OUTPUT,) if part else model.network.outputs or (OUTPUT,)
    return _to_arrays(outputs, [*capture, *own])


def step(
    model: ResNet | FrozenModel,
    images: Array,
    labels: Array,
    sgd: SGD,
    optimizer: Any = None,
    capture: Collection[str] = (),
) -> TrainingStep:
    """Train one step: update the weights and the running statistics."""
    model = _layers_to_train(model)
    optimizer = optimizer or _make_optimizer(model, sgd)
    twin = copy_in_mode(model, train=True)
    batch = _to_native(model, images), jnp.asarray(labels)
    with _exact_arithmetic(model):
        loss, outputs, gradients, output_gradients = _step(twin, optimizer, *batch, frozenset(capture))
    return TrainingStep(
        loss=float(loss),
        outputs=_to_arrays(outputs, [*capture, OUTPUT]),
        gradients=_to_named_arrays(model, gradients),
        output_gradients=_to_arrays(output_gradients, [INPUT, *capture, OUTPUT]),
        optimizer=optimizer,
    )


def vjp(model: ResNet | FrozenModel, part: str, x: Array, cotangent: Array) -> dict[str, Array]:
    """Return the vector-Jacobian product of a part in training, by canonical name and under "input".

    It is the gradient of (cotangent * part(x)).sum(). The model does not change.
    """
    model = _layers_to_train(model)
    graph, state = nnx.split(copy_in_mode(model, train=True))
    with _exact_arithmetic(model):
        gradients, of_x = _vjp(graph, state, _to_native(model, x), _to_native(model, cotangent), part)
    prefix = f"{part}." if part else ""
    of_part = {name: array for name, array in _to_named_arrays(model, gradients).items() if name.startswith(prefix)}
    return _to_arrays({INPUT: of_x}, [INPUT]) | of_part


def _capture_outputs(
    model: ResNet,
    images: jax.Array,
    capture: frozenset[str],
    part: str = "",
    offsets: ArraysByPath | None = None,
) -> ArraysByPath:
    """Return the outputs of captured parts, and of the network or of one part.

    If there are ``offsets``, each is added to the output of its path before the next part reads it.
    """
    captured: ArraysByPath = {}

    def hook(path: str, x: jax.Array) -> jax.Array:
        if path not in capture:
            return x
        captured[path] = x + offsets[path] if offsets else x
        return captured[path]

    output = run_part(model, part, images, hook)
    if isinstance(output, tuple):
        return captured | dict(zip(model.network.outputs, output, strict=True))
    capture |= {OUTPUT}
    hook(OUTPUT, output)
    return captured


# Not nnx.jit, which would return a copy of all weights. The copy in merge matters only where nothing is traced: there a
# norm in training would set the caller's own statistics.
@partial(jax.jit, static_argnames=("graph", "capture", "part"))
def _run(graph: GraphDef, state: State, images: jax.Array, capture: frozenset[str], part: str) -> ArraysByPath:
    return _capture_outputs(nnx.merge(graph, state, copy=True), images, capture, part)


@nnx.jit(static_argnames="capture")
def _step(
    model: ResNet, optimizer: nnx.Optimizer[ResNet], images: jax.Array, labels: jax.Array, capture: frozenset[str]
) -> tuple[jax.Array, ArraysByPath, State, ArraysByPath]:
    """Return the loss, outputs by path, the parameters' gradients as a state, and the outputs' gradients by path."""

    def compute_loss(model: ResNet, images: jax.Array, offsets: ArraysByPath) -> tuple[jax.Array, ArraysByPath]:
        outputs = _capture_outputs(model, images, capture, offsets=offsets)
        logits = FlattenChannelsFirst()(outputs[OUTPUT])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), outputs

    # JAX differentiates by arguments only, so the gradient of an output is that of a zero added to it. The shapes of
    # these zeros are known after an abstract trace.
    shapes = nnx.eval_shape(lambda model, images: _capture_outputs(model, images, capture), nnx.clone(model), images)
    zeros = {path: jnp.zeros(output.shape, output.dtype) for path, output in shapes.items()}
    differentiate = nnx.value_and_grad(compute_loss, argnums=(nnx.DiffState(0, nnx.Param), 1, 2), has_aux=True)
    (loss, outputs), (gradients, of_images, of_outputs) = differentiate(model, images, zeros)
    optimizer.update(model, gradients)
    return loss, outputs, gradients, {INPUT: of_images, **of_outputs}


@partial(jax.jit, static_argnames=("graph", "part"))
def _vjp(graph: GraphDef, state: State, x: jax.Array, cotangent: jax.Array, part: str) -> tuple[State, jax.Array]:
    def compute_product(model: ResNet, x: jax.Array) -> jax.Array:
        return (cotangent * run_part(model, part, x, None)).sum()

    differentiate = nnx.grad(compute_product, argnums=(nnx.DiffState(0, nnx.Param), 1))
    gradients, of_x = differentiate(nnx.merge(graph, state, copy=True), x)
    return gradients, of_x


@nnx.jit(static_argnames="sgd")  # without it XLA compiles the zeros of each shape separately
def _make_optimizer(model: ResNet, sgd: SGD) -> nnx.Optimizer[ResNet]:
    rule = optax.chain(optax.add_decayed_weights(sgd.weight_decay), optax.sgd(sgd.rate, sgd.momentum))
    return nnx.Optimizer(model, rule, wrt=nnx.Param)


def _layers_to_train(model: ResNet | FrozenModel) -> ResNet:
    if isinstance(model, FrozenModel):
        raise BackendError('a model built with mode="inference" has no training mode; build it with mode="training"')
    return model


def copy_in_mode(model: ResNet, train: bool) -> ResNet:
    """Return a copy of the model in training or evaluation mode that shares the model's variables."""
    twin = nnx.clone(model, variables=False)
    twin.set_attributes(use_running_average=not train, deterministic=not train, raise_if_not_found=False)
    return twin


@contextmanager
def _exact_arithmetic(model: ResNet | FrozenModel) -> Iterator[None]:
    """Compute in full precision on accelerators too, without compiling networks of more than MAX_COMPILED_PARTS.

    JAX adds notes about its own frames to errors; they are removed, since the errors raised here are about the network.
    """
    compiles = sum(1 for _ in model.network.nodes()) <= MAX_COMPILED_PARTS
    try:
        with jax.default_matmul_precision("highest"), nullcontext() if compiles else jax.disable_jit():
            yield
    except ValueError as error:
        error.__notes__ = []
        raise


def _to_native(model: ResNet, x: Array) -> jax.Array:
    """Convert (batch, channels, height, width) to (batch, height, width, channels), in the dtype of the parameters."""
    like = next(iter(jax.tree.leaves(nnx.state(model, nnx.Param))), x)
    array = np.asarray(x, like.dtype)
    return jnp.asarray(array.transpose(0, 2, 3, 1) if x.ndim == 4 else array)


def _to_arrays(maps: ArraysByPath, paths: Collection[str]) -> dict[str, Array]:
    """Convert maps to (batch, channels, height, width), as copies in the order of the paths."""
    arrays = {path: to_numpy(maps[path]) for path in paths}
    return {path: np.array(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x, order="C") for path, x in arrays.items()}


def _to_named_arrays(model: ResNet, gradients: State) -> dict[str, Array]:
    """Return a state of the parameters' gradients as arrays by canonical name."""
    twin = nnx.clone(model)
    nnx.update(twin, gradients)
    variables = named_variables(twin).items()
    return {name: to_canonical(variable.get_value()) for name, variable in variables if isinstance(variable, nnx.Param)}


def devices() -> list[str]:
    """Return the devices that JAX computes on: those of its preferred platform."""
    return [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()]
