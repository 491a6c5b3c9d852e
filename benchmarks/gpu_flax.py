"""Compare Flax models with one written by hand on a GPU. ``gpu.py`` runs this script, which prints JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from gpu_options import CHECKPOINTS, Options, RowGroup, measure_rows, parse_options
from measure import Case, Comparison, compare, make_comparison, print_records
from nnx_resnet import ResNet

from resnet_spec import build

PEER = "by hand"


def build_ours(name: str, options: Options, **settings: Any) -> Any:
    return build(name, backend="flax", device=options.device, input=(3, options.size, options.size), **settings)


def build_by_hand(name: str, options: Options) -> Any:
    model: Any = ResNet(name, nnx.Rngs(0))
    model.eval()
    nnx.update(model, jax.device_put(nnx.state(model), jax.devices(options.device)[0]))
    return model


def make_images(batch: int, options: Options, dtype: Any = jnp.float32) -> jax.Array:
    x = jax.random.normal(jax.random.key(0), (batch, options.size, options.size, 3), dtype)
    return jax.device_put(x, jax.devices(options.device)[0])


def wait_for(model: Any, x: jax.Array) -> None:
    model(x).block_until_ready()


def call_by_nnx_jit(model: Any, x: jax.Array) -> Callable[[], object]:
    run = nnx.jit(lambda model, x: model(x))
    return lambda: run(model, x).block_until_ready()


def call_by_jax_jit(model: Any, x: jax.Array) -> Callable[[], object]:
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    return lambda: run(state, x).block_until_ready()


def compare_evaluation(name: str, batch: int, options: Options) -> Iterator[list[Comparison]]:
    x = make_images(batch, options)
    by_hand = build_by_hand(name, options)
    calls = {"ours": call_by_nnx_jit(build_ours(name, options), x), PEER: call_by_nnx_jit(by_hand, x)}
    yield [compare(options.time(calls), "ours", PEER, Case("flax", name, batch, "evaluation, nnx.jit"))]
    for dtype in ("float32", "bfloat16"):
        inference = build_ours(name, options, mode="inference", compile=True, dtype=dtype)
        images = x.astype(dtype)
        peer = build_by_hand(name, options)
        nnx.update(peer, jax.tree.map(lambda array, dtype=dtype: array.astype(dtype), nnx.state(peer)))
        calls = {
            "ours": partial(wait_for, inference, images),
            PEER: call_by_jax_jit(peer, images),
        }
        case = Case("flax", name, batch, f"inference mode, {dtype}, against jax.jit")
        yield [compare(options.time(calls), "ours", PEER, case)]


def make_training_step(model: Any, x: jax.Array) -> Callable[[], object]:
    labels = jnp.arange(x.shape[0]) % 10
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(0.01, 0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, x: jax.Array) -> jax.Array:
        value, gradients = nnx.value_and_grad(lambda model: _compute_loss(model, x, labels))(model)
        optimizer.update(model, gradients)
        return value

    return lambda: step(model, optimizer, x).block_until_ready()


def _compute_loss(model: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()


def compare_training(name: str, batch: int, options: Options) -> Iterator[list[Comparison]]:
    x = make_images(batch, options)
    models = {"ours": build_ours(name, options), PEER: build_by_hand(name, options)}
    seconds = options.time({key: make_training_step(model, x) for key, model in models.items()})
    yield [compare(seconds, "ours", PEER, Case("flax", name, batch, "training step, nnx.jit"))]


def measure_memory(model: Any, x: jax.Array) -> float:
    """Return the MiB that XLA sets aside for what a step computes in between."""
    model.train()
    graph, state = nnx.split(model)

    def compute_gradients(state: Any, x: jax.Array) -> Any:
        return nnx.grad(lambda model: _compute_loss(model, x, jnp.zeros(len(x), int)))(
            nnx.merge(graph, state, copy=True)
        )

    analysis = jax.jit(compute_gradients).lower(state, x).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes / 2**20


def compare_memory(name: str, batch: int, options: Options) -> Iterator[list[Comparison]]:
    x = make_images(batch, options)
    theirs = measure_memory(build_by_hand(name, options), x)
    for checkpoint in CHECKPOINTS:
        own = measure_memory(build_ours(name, options, checkpoint=checkpoint), x)
        word = f', checkpoint="{checkpoint}"' if checkpoint else ""
        case = Case("flax", name, batch, f"memory of a training step{word}")
        yield [make_comparison([own] * 2, [theirs] * 2, PEER, case, "MiB")]


def main() -> None:
    options = parse_options()
    print(json.dumps({"machine": {"jax": jax.__version__, "flax": flax.__version__}}), flush=True)
    name, large, many = ("resnet18", 2, 2) if options.tiny else ("resnet50", 128, 64)
    groups: list[RowGroup] = [
        lambda: compare_evaluation(name, 1, options),
        lambda: compare_evaluation(name, large, options),
        lambda: compare_training(name, many, options),
        lambda: compare_memory(name, 2 if options.tiny else 32, options),
    ]
    measure_rows(groups, options, time.monotonic(), print_records)


if __name__ == "__main__":
    main()
