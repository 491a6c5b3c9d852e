"""Ours in Flax against a model written by hand: a line of JSON for each comparison. ``run.py`` calls this, in a process of its own."""

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
from measure import PRODUCTS, Case, Row, against, alone, asked, compared, grown, in_turn, say
from nnx_resnet import ResNet
from products import products

from resnet_spec import build, load


def ours(name: str, **settings: Any) -> Any:
    return build(name, backend="flax", **settings)


def by_hand(name: str) -> Any:
    model: Any = ResNet(name, nnx.Rngs(0))
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


def construction(name: str, rounds: int) -> list[Row]:
    """Each time in a new process, as when a program starts: a model by hand has each initialiser traced and compiled."""
    sets = [[alone(__file__, name, "construction", whose) for whose in ("ours", "by hand")] for _ in range(rounds)]
    own, theirs = zip(*sets, strict=True)
    return [against(own, theirs, "by hand", Case("flax", name, 0, "construction"), "ms")]


def constructed(name: str, whose: str) -> float:
    """The milliseconds that a model takes to be there, JAX having been started before."""
    jax.block_until_ready(jnp.zeros(1) + 1)
    start = time.perf_counter()
    jax.block_until_ready(nnx.state(ours(name) if whose == "ours" else by_hand(name)))
    return 1000 * (time.perf_counter() - start)


def by_nnx(model: Any, x: jax.Array) -> Callable[[], None]:
    run = nnx.jit(lambda model, x: model(x))
    return lambda: run(model, x).block_until_ready()


def by_partial(model: Any, x: jax.Array) -> Callable[[], None]:
    """nnx.jit_partial: the model is taken apart once, and not at every call."""
    run = nnx.jit_partial(lambda model, x: model(x), model, graph=False)
    return lambda: run(x).block_until_ready()


def by_state(model: Any, x: jax.Array) -> Callable[[], None]:
    """jax.jit on split state: what NNX's own guide advises where nnx.jit's way through the modules costs too much."""
    definition, state = nnx.split(model)
    run = jax.jit(lambda state, x: nnx.merge(definition, state)(x))
    return lambda: run(state, x).block_until_ready()


def evaluation(name: str, batch: int, rounds: int) -> list[Row]:
    x = images(batch)
    plain, hand = ours(name), by_hand(name)
    inference = ours(name, mode="inference", compile=True)
    seconds = in_turn(
        {
            "ours, nnx.jit": by_nnx(plain, x),
            "by hand, nnx.jit": by_nnx(hand, x),
            "ours, nnx.jit_partial": by_partial(plain, x),
            "by hand, nnx.jit_partial": by_partial(hand, x),
            "ours, jax.jit": by_state(plain, x),
            "by hand, jax.jit": by_state(hand, x),
            "inference": lambda: inference(x).block_until_ready(),
            PRODUCTS: multiplied(name, batch),
        },
        rounds,
    )
    rows = [
        ("ours, nnx.jit", "by hand, nnx.jit", "evaluation"),
        ("ours, nnx.jit_partial", "by hand, nnx.jit_partial", "evaluation"),
        ("ours, jax.jit", "by hand, jax.jit", "evaluation"),
        ("inference", "by hand, jax.jit", "inference mode, compiled"),
    ]
    return [compared(seconds, own, peer, Case("flax", name, batch, what)) for own, peer, what in rows]


def finished(run: Callable[[], jax.Array]) -> None:
    run().block_until_ready()


def dispatched(name: str, rounds: int) -> list[Row]:
    """What a call costs beside what it computes: of functions that are given a model and do nothing with it."""
    x = jnp.zeros(4)

    def nothing(model: Any, x: jax.Array) -> jax.Array:
        return x * 2

    calls = {}
    for whose, model in {"ours": ours(name), "by hand": by_hand(name)}.items():
        state = nnx.split(model)[1]
        calls[f"{whose}, nnx.jit"] = partial(nnx.jit(nothing), model, x)
        calls[f"{whose}, nnx.jit of trees"] = partial(nnx.jit(nothing, graph=False), model, x)
        calls[f"{whose}, nnx.jit_partial"] = partial(nnx.jit_partial(nothing, model, graph=False), x)
        calls[f"{whose}, jax.jit"] = partial(jax.jit(nothing), state, x)
    seconds = in_turn({key: partial(finished, run) for key, run in calls.items()}, 3 * rounds)
    ways = {
        "nnx.jit": "dispatch by nnx.jit",
        "nnx.jit of trees": "dispatch by nnx.jit(graph=False)",
        "nnx.jit_partial": "dispatch by nnx.jit_partial",
        "jax.jit": "dispatch by jax.jit on split state",
    }
    return [
        compared(seconds, f"ours, {way}", f"by hand, {way}", Case("flax", name, 0, what)) for way, what in ways.items()
    ]


def trained(model: Any, x: jax.Array) -> Callable[[], object]:
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


def training(name: str, batch: int, rounds: int) -> list[Row]:
    x = images(batch)
    models = {"ours": ours(name), "by hand": by_hand(name)}
    seconds = in_turn({key: trained(model, x) for key, model in models.items()}, rounds)
    return [compared(seconds, "ours", "by hand", Case("flax", name, batch, "training step"))]


def memory(name: str, batch: int) -> list[Row]:
    """Each time in a new process, from when the framework is imported: the model, and two steps."""
    rows = []
    for what in ("evaluation", "training step"):
        sizes = [[alone(__file__, name, what, whose, batch) for whose in ("ours", "by hand")] for _ in range(3)]
        own, theirs = zip(*sizes, strict=True)
        rows.append(against(own, theirs, "by hand", Case("flax", name, batch, f"{what}, peak memory"), "MiB"))
    return rows


def peak(name: str, what: str, whose: str, batch: int) -> float:
    def twice() -> None:
        model = ours(name) if whose == "ours" else by_hand(name)
        step = (trained if what == "training step" else by_nnx)(model, images(batch))
        step(), step()

    return grown(twice)


def main() -> None:
    options = asked()
    name, rounds = options.model, options.rounds
    if options.alone:
        what, whose = options.alone
        print(constructed(name, whose) if what == "construction" else peak(name, what, whose, *options.batch))
        return
    say(construction(name, rounds))
    say(dispatched(name, rounds))
    for batch in options.batch:
        say(evaluation(name, batch, rounds))
        say(training(name, batch, rounds))
    say(memory(name, max(options.batch)))


if __name__ == "__main__":
    main()
