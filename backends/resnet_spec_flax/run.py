"""Run a Flax model: evaluate it and look into it, or train it one step. NumPy in, NumPy out."""

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

from resnet_spec.backend import OUTPUT, SGD, TrainingStep
from resnet_spec.weights.canonical import Array
from resnet_spec_flax.modules import ResNet, run_part
from resnet_spec_flax.own import FlattenChannelsFirst
from resnet_spec_flax.weights import canonical, plain, variables

Seen: TypeAlias = dict[str, jax.Array]
"""Outputs by path, or their gradients."""

Parts: TypeAlias = nnx.GraphDef[ResNet]
State: TypeAlias = nnx.State[Any, Any]

INPUT = "input"
"""The path under which the images' gradient is given."""

COMPILED = 2000
"""The most parts of a network that is compiled whole; of more, one operation after another is. XLA takes 3 seconds for the outputs of a
resnet110's 400 parts, 147 and 12 GB for the 4,214 of a resnet1202; by operations those, a training pass and five steps take 250 in all, and 1.6 GB."""


def run(
    model: ResNet, images: Array, watch: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Outputs by path, of the parts to watch and of the network, or of a part alone. The model is left as it was."""
    parts, state = nnx.split(_in_mode(model, train))
    with _exactly(model):
        seen = _run(parts, state, _native(model, images), frozenset(watch), part)
    return _arrays(seen, [*watch, *((OUTPUT,) if part else model.network.outputs or (OUTPUT,))])


def step(
    model: ResNet, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, watch: Collection[str] = ()
) -> TrainingStep:
    """One training step: weights and statistics are updated."""
    optimizer = optimizer or _optimizer(model, sgd)
    twin = _in_mode(model, train=True)
    given = _native(model, images), jnp.asarray(labels)
    with _exactly(model):
        loss, seen, slopes, output_slopes = _step(twin, optimizer, *given, frozenset(watch))
    return TrainingStep(
        loss=float(loss),
        outputs=_arrays(seen, [*watch, OUTPUT]),
        gradients=_by_name(model, slopes),
        output_gradients=_arrays(output_slopes, [INPUT, *watch, OUTPUT]),
        optimizer=optimizer,
    )


def pull(model: ResNet, part: str, x: Array, slope: Array) -> dict[str, Array]:
    """The gradient of (slope * part(x)).sum() in training, by canonical name and for the input. The model is left as it was."""
    parts, state = nnx.split(_in_mode(model, train=True))
    with _exactly(model):
        slopes, of_x = _pull(parts, state, _native(model, x), _native(model, slope), part)
    beneath = f"{part}." if part else ""
    own = {name: slope for name, slope in _by_name(model, slopes).items() if name.startswith(beneath)}
    return _arrays({INPUT: of_x}, [INPUT]) | own


def _outputs(
    model: ResNet, images: jax.Array, watch: frozenset[str], part: str = "", moved: Seen | None = None
) -> Seen:
    """What the watched parts give, and the network or a part alone; each moved by what is said under its path."""
    seen: Seen = {}

    def see(path: str, x: jax.Array) -> jax.Array:
        if path not in watch:
            return x
        seen[path] = x + moved[path] if moved else x
        return seen[path]

    output = run_part(model, part, images, see)
    if isinstance(output, tuple):
        return seen | dict(zip(model.network.outputs, output, strict=True))
    watch |= {OUTPUT}
    see(OUTPUT, output)
    return seen


# By nnx.jit a function would give all weights back, as copies. Variables are copied for where nothing is traced: a norm sets its own.
@partial(jax.jit, static_argnames=("parts", "watch", "part"))
def _run(parts: Parts, state: State, images: jax.Array, watch: frozenset[str], part: str) -> Seen:
    return _outputs(nnx.merge(parts, state, copy=True), images, watch, part)


@nnx.jit(static_argnames="watch")
def _step(
    model: ResNet, optimizer: nnx.Optimizer[ResNet], images: jax.Array, labels: jax.Array, watch: frozenset[str]
) -> tuple[jax.Array, Seen, State, Seen]:
    """The loss, outputs by path, and the loss's gradients: a state like the parameters', and by path."""

    def loss_of(model: ResNet, images: jax.Array, moved: Seen) -> tuple[jax.Array, Seen]:
        seen = _outputs(model, images, watch, moved=moved)
        logits = FlattenChannelsFirst()(seen[OUTPUT])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), seen

    # An output's gradient is that of a zero added to it; only a first trace can say how large that is.
    shapes = nnx.eval_shape(lambda model, images: _outputs(model, images, watch), nnx.clone(model), images)
    nothing = {path: jnp.zeros(output.shape, output.dtype) for path, output in shapes.items()}
    of_all = nnx.value_and_grad(loss_of, argnums=(nnx.DiffState(0, nnx.Param), 1, 2), has_aux=True)
    (loss, seen), (slopes, of_images, of_outputs) = of_all(model, images, nothing)
    optimizer.update(model, slopes)
    return loss, seen, slopes, {INPUT: of_images, **of_outputs}


@partial(jax.jit, static_argnames=("parts", "part"))
def _pull(parts: Parts, state: State, x: jax.Array, slope: jax.Array, part: str) -> tuple[State, jax.Array]:
    def along(model: ResNet, x: jax.Array) -> jax.Array:
        return (slope * run_part(model, part, x, None)).sum()

    slopes, of_x = nnx.grad(along, argnums=(nnx.DiffState(0, nnx.Param), 1))(nnx.merge(parts, state, copy=True), x)
    return slopes, of_x


@nnx.jit(static_argnames="sgd")  # else XLA compiles the zeros of each shape on their own
def _optimizer(model: ResNet, sgd: SGD) -> nnx.Optimizer[ResNet]:
    rule = optax.chain(optax.add_decayed_weights(sgd.weight_decay), optax.sgd(sgd.rate, sgd.momentum))
    return nnx.Optimizer(model, rule, wrt=nnx.Param)


def _in_mode(model: ResNet, train: bool) -> ResNet:
    """A twin of the model in training or evaluation mode, with the very same variables."""
    twin = nnx.clone(model, variables=False)
    twin.set_attributes(use_running_average=not train, deterministic=not train, raise_if_not_found=False)
    return twin


@contextmanager
def _exactly(model: ResNet) -> Iterator[None]:
    """Full precision on accelerators too, compiled unless too deep, and errors without the note that JAX adds about its own frames."""
    deep = sum(1 for _ in model.network.nodes()) > COMPILED
    try:
        with jax.default_matmul_precision("highest"), jax.disable_jit() if deep else nullcontext():
            yield
    except ValueError as error:
        error.__notes__ = []
        raise


def _native(model: ResNet, x: Array) -> jax.Array:
    """(batch, channels, height, width) -> (batch, height, width, channels), in the model's type."""
    like = next(iter(jax.tree.leaves(nnx.state(model, nnx.Param))), x)
    array = np.asarray(x, like.dtype)
    return jnp.asarray(array.transpose(0, 2, 3, 1) if x.ndim == 4 else array)


def _arrays(maps: Seen, paths: Collection[str]) -> dict[str, Array]:
    """(batch, height, width, channels) -> (batch, channels, height, width), as copies; in the order of the paths."""
    arrays = {path: plain(maps[path]) for path in paths}
    return {path: np.array(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x, order="C") for path, x in arrays.items()}


def _by_name(model: ResNet, slopes: State) -> dict[str, Array]:
    """A state like the parameters' as arrays by canonical name."""
    sloped = nnx.clone(model)
    nnx.update(sloped, slopes)
    named = variables(sloped).items()
    return {name: canonical(slope.get_value()) for name, slope in named if isinstance(slope, nnx.Param)}
