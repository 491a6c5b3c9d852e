"""Ours in PaddlePaddle against paddle.vision's: a line of JSON for each comparison. ``run.py`` calls this, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import paddle
from measure import PRODUCTS, Case, Figure, Row, against, alone, asked, compared, figure, grown, in_turn, say
from paddle.nn import functional
from products import products

from resnet_spec import build, load, run
from resnet_spec.weights.canonical import initialize

PEER = "paddle.vision"


def ours(name: str, **settings: Any) -> Any:
    return build(name, backend="paddle", **settings)


def vision(name: str) -> Any:
    model = getattr(paddle.vision.models, name)()
    model.eval()
    return model


def images(batch: int) -> Any:
    return paddle.to_tensor(np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32))


def multiplied(name: str, batch: int) -> Callable[[], None]:
    """The network's matrix products."""
    found = products(load(name), batch)
    by_size = {
        one: (paddle.randn([one.count, one.rows, one.inner]), paddle.randn([one.count, one.inner, one.columns]))
        for one in set(found)
    }

    def run() -> None:
        for one in found:
            paddle.matmul(*by_size[one])

    return run


def construction(name: str, rounds: int) -> list[Row]:
    seconds = in_turn({"ours": lambda: ours(name), PEER: lambda: vision(name)}, rounds)
    return [compared(seconds, "ours", PEER, Case("paddle", name, 0, "construction"))]


def evaluated(model: Any, x: Any) -> Callable[[], Any]:
    def run() -> Any:
        with paddle.no_grad():
            return model(x).numpy()

    return run


def evaluation(name: str, batch: int, rounds: int) -> list[Row]:
    x = images(batch)
    seconds = in_turn(
        {
            "ours": evaluated(ours(name), x),
            PEER: evaluated(vision(name), x),
            "inference": evaluated(ours(name, mode="inference"), x),
            "bfloat16": evaluated(ours(name, mode="inference", dtype="bfloat16"), x),
            PRODUCTS: multiplied(name, batch),
        },
        rounds,
    )
    rows = {"ours": "evaluation", "inference": "inference mode", "bfloat16": "inference mode, bfloat16"}
    return [compared(seconds, own, PEER, Case("paddle", name, batch, what)) for own, what in rows.items()]


def compiled(name: str, batch: int, rounds: int) -> list[Row]:
    """Paddle's way to compile: the model as one static program."""
    x = images(batch)
    models = {"ours": ours(name), PEER: vision(name)}
    run = {key: evaluated(paddle.jit.to_static(model, full_graph=True), x) for key, model in models.items()}
    seconds = in_turn(run, rounds)
    return [compared(seconds, "ours", PEER, Case("paddle", name, batch, "evaluation, compiled"))]


def trained(model: Any, x: Any) -> Callable[[], None]:
    labels = paddle.arange(x.shape[0])
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())

    def run() -> None:
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    return run


def training(name: str, batch: int, rounds: int) -> list[Row]:
    x = images(batch)
    models = {"ours": ours(name), PEER: vision(name)}
    seconds = in_turn({key: trained(model, x) for key, model in models.items()}, rounds)
    return [compared(seconds, "ours", PEER, Case("paddle", name, batch, "training step"))]


def lost(name: str) -> list[Figure]:
    """The largest difference from the outputs in float64, over the largest output."""
    network, x = load(name), images(8).numpy()
    weights = initialize(network)
    make = partial(build, network, backend="paddle", weights=weights)
    exact = run(make(dtype="float64"), x)
    models = {
        "evaluation": make(),
        "inference mode": make(mode="inference"),
        "inference mode, bfloat16": make(mode="inference", dtype="bfloat16"),
    }
    return [
        figure([float(abs(run(model, x) - exact).max() / abs(exact).max())], Case("paddle", name, 8, what), "off")
        for what, model in models.items()
    ]


def memory(name: str, batch: int) -> list[Row]:
    """Each time in a new process, from when the framework is imported: the model, and two steps."""
    rows = []
    for what in ("evaluation", "training step", "inference mode"):
        sizes = [[alone(__file__, name, what, whose, batch) for whose in ("ours", PEER)] for _ in range(3)]
        own, theirs = zip(*sizes, strict=True)
        rows.append(against(own, theirs, PEER, Case("paddle", name, batch, f"{what}, peak memory"), "MiB"))
    return rows


def peak(name: str, what: str, whose: str, batch: int) -> float:
    def twice() -> None:
        settings = {"mode": "inference"} if what == "inference mode" else {}
        model = ours(name, **settings) if whose == "ours" else vision(name)
        step = (trained if what == "training step" else evaluated)(model, images(batch))
        step(), step()

    return grown(twice)


def main() -> None:
    options = asked()
    name, rounds = options.model, options.rounds
    if options.alone:
        print(peak(name, *options.alone, *options.batch))
        return
    say(construction(name, rounds))
    for batch in options.batch:
        say(evaluation(name, batch, rounds))
        say(training(name, batch, rounds))
        if options.compile:
            say(compiled(name, batch, rounds))
    say(memory(name, max(options.batch)))
    say(lost(name))


if __name__ == "__main__":
    main()
