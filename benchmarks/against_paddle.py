"""Compare PaddlePaddle models with those of paddle.vision. ``run.py`` runs this script, which prints JSON lines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import paddle
from measure import (
    PRODUCTS,
    Case,
    Comparison,
    Figure,
    compare,
    make_comparison,
    make_figure,
    measure_in_process,
    measure_memory_growth,
    parse_arguments,
    print_records,
    time_in_turn,
)
from paddle.nn import functional
from products import matrix_products

from resnet_spec import build, load, run
from resnet_spec.weights.canonical import initialize

PEER = "paddle.vision"


def build_ours(name: str, **settings: Any) -> Any:
    return build(name, backend="paddle", **settings)


def build_paddle_vision(name: str) -> Any:
    model = getattr(paddle.vision.models, name)()
    model.eval()
    return model


def make_images(batch: int) -> Any:
    return paddle.to_tensor(np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32))


def make_products(name: str, batch: int) -> Callable[[], None]:
    """Return a function that computes a network's matrix products."""
    all_products = matrix_products(load(name), batch)
    by_size = {
        product: (
            paddle.randn([product.count, product.rows, product.inner]),
            paddle.randn([product.count, product.inner, product.columns]),
        )
        for product in set(all_products)
    }

    def run() -> None:
        for product in all_products:
            paddle.matmul(*by_size[product])

    return run


def compare_construction(name: str, rounds: int) -> list[Comparison]:
    seconds = time_in_turn({"ours": lambda: build_ours(name), PEER: lambda: build_paddle_vision(name)}, rounds)
    return [compare(seconds, "ours", PEER, Case("paddle", name, 0, "construction"))]


def make_evaluation(model: Any, x: Any) -> Callable[[], Any]:
    def run() -> Any:
        with paddle.no_grad():
            return model(x).numpy()

    return run


def compare_evaluation(name: str, batch: int, rounds: int) -> list[Comparison]:
    x = make_images(batch)
    seconds = time_in_turn(
        {
            "ours": make_evaluation(build_ours(name), x),
            PEER: make_evaluation(build_paddle_vision(name), x),
            "inference": make_evaluation(build_ours(name, mode="inference"), x),
            "bfloat16": make_evaluation(build_ours(name, mode="inference", dtype="bfloat16"), x),
            PRODUCTS: make_products(name, batch),
        },
        rounds,
    )
    rows = {"ours": "evaluation", "inference": "inference mode", "bfloat16": "inference mode, bfloat16"}
    return [compare(seconds, own, PEER, Case("paddle", name, batch, what)) for own, what in rows.items()]


def compare_compiled(name: str, batch: int, rounds: int) -> list[Comparison]:
    """Compare models that Paddle compiled to static programs."""
    x = make_images(batch)
    models = {"ours": build_ours(name), PEER: build_paddle_vision(name)}
    run = {key: make_evaluation(paddle.jit.to_static(model, full_graph=True), x) for key, model in models.items()}
    seconds = time_in_turn(run, rounds)
    return [compare(seconds, "ours", PEER, Case("paddle", name, batch, "evaluation, compiled"))]


def make_training_step(model: Any, x: Any) -> Callable[[], None]:
    labels = paddle.arange(x.shape[0])
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())

    def run() -> None:
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    return run


def compare_training(name: str, batch: int, rounds: int) -> list[Comparison]:
    x = make_images(batch)
    models = {"ours": build_ours(name), PEER: build_paddle_vision(name)}
    seconds = time_in_turn({key: make_training_step(model, x) for key, model in models.items()}, rounds)
    return [compare(seconds, "ours", PEER, Case("paddle", name, batch, "training step"))]


def measure_errors(name: str) -> list[Figure]:
    """Measure the largest difference from the outputs in float64, relative to the largest output."""
    network, x = load(name), make_images(8).numpy()
    weights = initialize(network)
    make = partial(build, network, backend="paddle", weights=weights)
    exact = run(make(dtype="float64"), x)
    models = {
        "evaluation": make(),
        "inference mode": make(mode="inference"),
        "inference mode, bfloat16": make(mode="inference", dtype="bfloat16"),
    }
    return [
        make_figure([float(abs(run(model, x) - exact).max() / abs(exact).max())], Case("paddle", name, 8, what), "off")
        for what, model in models.items()
    ]


def compare_memory(name: str, batch: int) -> list[Comparison]:
    """Compare the memory of a model and two steps, each in a new process, after the framework is imported."""
    rows = []
    for what in ("evaluation", "training step", "inference mode"):
        sizes = [[measure_in_process(__file__, name, what, whose, batch) for whose in ("ours", PEER)] for _ in range(3)]
        own, theirs = zip(*sizes, strict=True)
        rows.append(make_comparison(own, theirs, PEER, Case("paddle", name, batch, f"{what}, peak memory"), "MiB"))
    return rows


def measure_memory(name: str, what: str, whose: str, batch: int) -> float:
    """Return the MiB of memory that building a model and running two steps takes."""

    def run_twice() -> None:
        settings = {"mode": "inference"} if what == "inference mode" else {}
        model = build_ours(name, **settings) if whose == "ours" else build_paddle_vision(name)
        step = (make_training_step if what == "training step" else make_evaluation)(model, make_images(batch))
        step(), step()

    return measure_memory_growth(run_twice)


def main() -> None:
    options = parse_arguments()
    name, rounds = options.model, options.rounds
    if options.alone:
        print(measure_memory(name, *options.alone, *options.batch))
        return
    print_records(compare_construction(name, rounds))
    for batch in options.batch:
        print_records(compare_evaluation(name, batch, rounds))
        print_records(compare_training(name, batch, rounds))
        if options.compile:
            print_records(compare_compiled(name, batch, rounds))
    print_records(compare_memory(name, max(options.batch)))
    print_records(measure_errors(name))


if __name__ == "__main__":
    main()
