"""Ours in Flax against a model written by hand: a JSON line for each comparison. ``run.py`` calls this, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from measure import PRODUCTS, ROUNDS, Row, compared, in_turn
from nnx_resnet import ResNet
from products import products

from resnet_spec import build, load


def ours(name: str, **settings: Any) -> Any:
    return build(name, backend="flax", **settings)


def by_hand(name: str) -> Any:
    model = ResNet(name, nnx.Rngs(0))
    model.eval()
    return model


def images(batch: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal((batch, 224, 224, 3), np.float32))


def multiplied(name: str, batch: int) -> Callable[[], None]:
    """The network's matrix products, each a compiled function."""
    found = products(load(name), batch)
    random = np.random.default_rng(0)
    by_size = {
        one: tuple(
            jnp.asarray(random.standard_normal(size, np.float32))
            for size in ((one.count, one.rows, one.inner), (one.count, one.inner, one.columns))
        )
        for one in set(found)
    }
    product = jax.jit(jnp.matmul)

    def run() -> None:
        for one in found:
            product(*by_size[one]).block_until_ready()

    return run


def construction(name: str) -> list[Row]:
    """Each time in a new process, as when a program starts: a model by hand has each initialiser traced and compiled."""
    command = [sys.executable, __file__, "construct", name]
    seconds: dict[str, list[float]] = {"ours": [], "by hand": []}
    for _ in range(7):
        for which, times in seconds.items():
            done = subprocess.run([*command, which], check=True, capture_output=True, text=True)
            times.append(float(done.stdout))
    return [compared(seconds, "ours", "by hand", framework="flax", model=name, batch=0, what="construction")]


def construct(name: str, which: str) -> float:
    """The seconds that a model takes to be there, JAX having been started before."""
    jax.block_until_ready(jnp.zeros(1) + 1)
    start = time.perf_counter()
    jax.block_until_ready(nnx.state(ours(name) if which == "ours" else by_hand(name)))
    return time.perf_counter() - start


def by_nnx(model: Any, x: jax.Array) -> Callable[[], None]:
    run = nnx.jit(lambda model, x: model(x))
    return lambda: run(model, x).block_until_ready()


def by_state(model: Any, x: jax.Array) -> Callable[[], None]:
    """jax.jit on split state: what NNX's own guide advises where nnx.jit's way through the modules costs too much."""
    definition, state = nnx.split(model)
    run = jax.jit(lambda state, x: nnx.merge(definition, state)(x))
    return lambda: run(state, x).block_until_ready()


def evaluation(name: str, batch: int) -> list[Row]:
    x = images(batch)
    plain, hand = ours(name), by_hand(name)
    inference = ours(name, mode="inference", compile=True)
    seconds = in_turn(
        {
            "ours, nnx.jit": by_nnx(plain, x),
            "by hand, nnx.jit": by_nnx(hand, x),
            "ours, jax.jit": by_state(plain, x),
            "by hand, jax.jit": by_state(hand, x),
            "inference": lambda: inference(x).block_until_ready(),
            PRODUCTS: multiplied(name, batch),
        }
    )
    pairs = [
        ("ours, nnx.jit", "by hand, nnx.jit", "evaluation"),
        ("ours, jax.jit", "by hand, jax.jit", "evaluation, split state"),
        ("inference", "by hand, jax.jit", "inference mode, compiled"),
    ]
    return [
        compared(seconds, own, peer, framework="flax", model=name, batch=batch, what=what) for own, peer, what in pairs
    ]


def trained(model: Any, x: jax.Array) -> Callable[[], None]:
    labels = jnp.arange(x.shape[0])
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(0.01, 0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> jax.Array:
        def loss(model: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()

        value, slopes = nnx.value_and_grad(loss)(model)
        optimizer.update(model, slopes)
        return value

    return lambda: step(model, optimizer).block_until_ready()


def training(name: str, batch: int) -> list[Row]:
    x = images(batch)
    models = {"ours": ours(name), "by hand": by_hand(name)}
    seconds = in_turn({key: trained(model, x) for key, model in models.items()}, max(7, ROUNDS - 2))
    return [compared(seconds, "ours", "by hand", framework="flax", model=name, batch=batch, what="training step")]


def main(name: str, batches: list[int]) -> None:
    rows = construction(name)
    for batch in batches:
        rows += evaluation(name, batch) + training(name, batch)
    for row in rows:
        print(json.dumps(row.json()))


if __name__ == "__main__" and sys.argv[1] == "construct":
    print(construct(*sys.argv[2:]))
elif __name__ == "__main__":
    main(sys.argv[1], [int(word) for word in sys.argv[2].split(",")])
