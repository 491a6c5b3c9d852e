"""Compare Flax models with one that is written by hand. ``run.py`` runs this script, which prints JSON lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from measure import (
    PRODUCTS,
    Case,
    Comparison,
    compare,
    make_comparison,
    measure_in_process,
    measure_memory_growth,
    parse_arguments,
    print_records,
    time_in_turn,
)
from nnx_resnet import ResNet
from products import matrix_products

from resnet_spec import build, load


def build_ours(name: str, **settings: Any) -> Any:
    return build(name, backend="flax", **settings)


def build_by_hand(name: str) -> Any:
    model: Any = ResNet(name, nnx.Rngs(0))
    model.eval()
    return model


def make_images(batch: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal((batch, 224, 224, 3), np.float32))


def make_products(name: str, batch: int) -> Callable[[], None]:
    """Return a function that computes a network's matrix products, each by a compiled function."""
    all_products = matrix_products(load(name), batch)
    rng = np.random.default_rng(0)
    by_size = {
        product: tuple(
            jnp.asarray(rng.standard_normal(size, np.float32))
            for size in ((product.count, product.rows, product.inner), (product.count, product.inner, product.columns))
        )
        for product in set(all_products)
    }
    matmul = jax.jit(jnp.matmul)

    def run() -> None:
        for product in all_products:
            matmul(*by_size[product]).block_until_ready()

    return run


def compare_construction(name: str, rounds: int) -> list[Comparison]:
    """Compare the time to build a model, each in a new process, where JAX has to trace and compile initializers."""
    times = [
        [measure_in_process(__file__, name, "construction", whose) for whose in ("ours", "by hand")]
        for _ in range(rounds)
    ]
    own, theirs = zip(*times, strict=True)
    return [make_comparison(own, theirs, "by hand", Case("flax", name, 0, "construction"), "ms")]


def time_construction(name: str, whose: str) -> float:
    """Return the milliseconds in which a model is built, after JAX has started."""
    jax.block_until_ready(jnp.zeros(1) + 1)
    start = time.perf_counter()
    jax.block_until_ready(nnx.state(build_ours(name) if whose == "ours" else build_by_hand(name)))
    return 1000 * (time.perf_counter() - start)


def call_by_nnx_jit(model: Any, x: jax.Array) -> Callable[[], None]:
    run = nnx.jit(lambda model, x: model(x))
    return lambda: run(model, x).block_until_ready()


def call_by_jit_partial(model: Any, x: jax.Array) -> Callable[[], None]:
    """Return a call by nnx.jit_partial, which splits the model once instead of at each call."""
    run = nnx.jit_partial(lambda model, x: model(x), model, graph=False)
    return lambda: run(x).block_until_ready()


def call_by_jax_jit(model: Any, x: jax.Array) -> Callable[[], None]:
    """Return a call by jax.jit on split state, as NNX's guide recommends if the traversal by nnx.jit takes too long."""
    definition, state = nnx.split(model)
    run = jax.jit(lambda state, x: nnx.merge(definition, state)(x))
    return lambda: run(state, x).block_until_ready()


def compare_evaluation(name: str, batch: int, rounds: int) -> list[Comparison]:
    x = make_images(batch)
    ours, by_hand = build_ours(name), build_by_hand(name)
    inference = build_ours(name, mode="inference", compile=True)
    seconds = time_in_turn(
        {
            "ours, nnx.jit": call_by_nnx_jit(ours, x),
            "by hand, nnx.jit": call_by_nnx_jit(by_hand, x),
            "ours, nnx.jit_partial": call_by_jit_partial(ours, x),
            "by hand, nnx.jit_partial": call_by_jit_partial(by_hand, x),
            "ours, jax.jit": call_by_jax_jit(ours, x),
            "by hand, jax.jit": call_by_jax_jit(by_hand, x),
            "inference": lambda: inference(x).block_until_ready(),
            PRODUCTS: make_products(name, batch),
        },
        rounds,
    )
    rows = [
        ("ours, nnx.jit", "by hand, nnx.jit", "evaluation"),
        ("ours, nnx.jit_partial", "by hand, nnx.jit_partial", "evaluation"),
        ("ours, jax.jit", "by hand, jax.jit", "evaluation"),
        ("inference", "by hand, jax.jit", "inference mode, compiled"),
    ]
    return [compare(seconds, own, peer, Case("flax", name, batch, what)) for own, peer, what in rows]


def wait_for(run: Callable[[], jax.Array]) -> None:
    run().block_until_ready()


def compare_dispatch(name: str, rounds: int) -> list[Comparison]:
    """Compare the overhead of calls, by functions that take a model and do not use it."""
    x = jnp.zeros(4)

    def ignore_model(model: Any, x: jax.Array) -> jax.Array:
        return x * 2

    calls = {}
    for whose, model in {"ours": build_ours(name), "by hand": build_by_hand(name)}.items():
        state = nnx.split(model)[1]
        calls[f"{whose}, nnx.jit"] = partial(nnx.jit(ignore_model), model, x)
        calls[f"{whose}, nnx.jit of trees"] = partial(nnx.jit(ignore_model, graph=False), model, x)
        calls[f"{whose}, nnx.jit_partial"] = partial(nnx.jit_partial(ignore_model, model, graph=False), x)
        calls[f"{whose}, jax.jit"] = partial(jax.jit(ignore_model), state, x)
    seconds = time_in_turn({key: partial(wait_for, run) for key, run in calls.items()}, 3 * rounds)
    labels = {
        "nnx.jit": "dispatch by nnx.jit",
        "nnx.jit of trees": "dispatch by nnx.jit(graph=False)",
        "nnx.jit_partial": "dispatch by nnx.jit_partial",
        "jax.jit": "dispatch by jax.jit on split state",
    }
    return [
        compare(seconds, f"ours, {way}", f"by hand, {way}", Case("flax", name, 0, what)) for way, what in labels.items()
    ]


def make_training_step(model: Any, x: jax.Array) -> Callable[[], object]:
    labels = jnp.arange(x.shape[0])
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(0.01, 0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> jax.Array:
        def loss(model: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    return lambda: step(model, optimizer).block_until_ready()


def compare_training(name: str, batch: int, rounds: int) -> list[Comparison]:
    x = make_images(batch)
    models = {"ours": build_ours(name), "by hand": build_by_hand(name)}
    seconds = time_in_turn({key: make_training_step(model, x) for key, model in models.items()}, rounds)
    return [compare(seconds, "ours", "by hand", Case("flax", name, batch, "training step"))]


def compare_memory(name: str, batch: int) -> list[Comparison]:
    """Compare the memory of a model and two steps, each in a new process, after the framework is imported."""
    rows = []
    for what in ("evaluation", "training step"):
        sizes = [
            [measure_in_process(__file__, name, what, whose, batch) for whose in ("ours", "by hand")] for _ in range(3)
        ]
        own, theirs = zip(*sizes, strict=True)
        rows.append(make_comparison(own, theirs, "by hand", Case("flax", name, batch, f"{what}, peak memory"), "MiB"))
    return rows


def measure_memory(name: str, what: str, whose: str, batch: int) -> float:
    """Return the MiB of memory that building a model and running two steps takes."""

    def run_twice() -> None:
        model = build_ours(name) if whose == "ours" else build_by_hand(name)
        step = (make_training_step if what == "training step" else call_by_nnx_jit)(model, make_images(batch))
        step(), step()

    return measure_memory_growth(run_twice)


def main() -> None:
    options = parse_arguments()
    name, rounds = options.model, options.rounds
    if options.alone:
        what, whose = options.alone
        print(
            time_construction(name, whose)
            if what == "construction"
            else measure_memory(name, what, whose, *options.batch)
        )
        return
    print_records(compare_construction(name, rounds))
    print_records(compare_dispatch(name, rounds))
    for batch in options.batch:
        print_records(compare_evaluation(name, batch, rounds))
        print_records(compare_training(name, batch, rounds))
    print_records(compare_memory(name, max(options.batch)))


if __name__ == "__main__":
    main()
