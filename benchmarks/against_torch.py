"""Compare PyTorch models with those of torchvision and timm. ``run.py`` runs this script, which prints JSON lines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
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
from products import matrix_products
from runtimes import make_runtimes
from torch.nn import functional
from torch_peers import timm, torchvision

from resnet_spec import build, load, run
from resnet_spec.weights.canonical import initialize

PEERS = ("torchvision", "timm")


def build_ours(name: str, **settings: Any) -> Any:
    return build(name, backend="torch", **settings)


def build_torchvision(name: str) -> Any:
    return getattr(torchvision.models, name)(weights=None).eval()


def build_timm(name: str) -> Any:
    return timm.create_model(name, pretrained=False).eval()


def make_images(batch: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32))


def make_products(name: str, batch: int) -> dict[str, Callable[[], None]]:
    """Return functions that compute a network's matrix products: by matmul into allocated memory, and by oneDNN."""
    all_products = matrix_products(load(name), batch)
    by_size = {
        product: (
            torch.randn(product.count, product.rows, product.inner),
            torch.randn(product.count, product.columns, product.inner),
            torch.empty(product.count, product.columns, product.rows),
        )
        for product in set(all_products)
    }

    def by_default() -> None:
        for product in all_products:
            weight, x, out = by_size[product]
            torch.bmm(x, weight.mT, out=out) if product.count > 1 else torch.mm(x[0], weight[0].T, out=out[0])

    def by_onednn() -> None:
        for product in all_products:
            for weight, x in zip(*by_size[product][:2], strict=True):
                torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    return {PRODUCTS: by_default, f"{PRODUCTS}, oneDNN": by_onednn}


def compare_construction(name: str, rounds: int) -> list[Comparison]:
    run = {
        "ours": lambda: build_ours(name),
        "torchvision": lambda: build_torchvision(name),
        "timm": lambda: build_timm(name),
    }
    seconds = time_in_turn(run, rounds)
    return [compare(seconds, "ours", peer, Case("torch", name, 0, "construction")) for peer in PEERS]


def make_evaluation(model: Any, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    @torch.no_grad()
    def run() -> torch.Tensor:
        return model(x)

    return run


def compare_evaluation(name: str, batch: int, rounds: int) -> list[Comparison]:
    x = make_images(batch)
    runtimes = make_runtimes(name, x.numpy())
    seconds = time_in_turn(
        {
            "ours": make_evaluation(build_ours(name), x),
            "torchvision": make_evaluation(build_torchvision(name), x),
            "timm": make_evaluation(build_timm(name), x),
            "inference": make_evaluation(build_ours(name, mode="inference"), x),
            "bfloat16": make_evaluation(build_ours(name, mode="inference", dtype="bfloat16"), x),
            **runtimes,
            **make_products(name, batch),
        },
        rounds,
    )
    rows = [
        ("ours", "torchvision", "evaluation"),
        ("ours", "timm", "evaluation"),
        ("inference", "torchvision", "inference mode"),
        ("bfloat16", "torchvision", "inference mode, bfloat16"),
        *(("inference", runtime, "inference mode") for runtime in runtimes),
    ]
    return [compare(seconds, own, peer, Case("torch", name, batch, what)) for own, peer, what in rows]


def compare_compiled(name: str, batch: int, rounds: int) -> list[Comparison]:
    x, plain = make_images(batch), build_torchvision(name)
    seconds = time_in_turn(
        {
            "inference": make_evaluation(build_ours(name, mode="inference", compile=True), x),
            "ours": make_evaluation(torch.compile(build_ours(name)), x),
            "torchvision, compiled": make_evaluation(torch.compile(plain), x),
            "torchvision": make_evaluation(plain, x),
            **make_products(name, batch),
        },
        rounds,
    )
    rows = [
        ("inference", "torchvision", "inference mode, compiled"),
        ("inference", "torchvision, compiled", "inference mode, compiled"),
        ("ours", "torchvision, compiled", "evaluation, compiled"),
    ]
    return [compare(seconds, own, peer, Case("torch", name, batch, what)) for own, peer, what in rows]


def make_training_step(model: Any, x: torch.Tensor) -> Callable[[], None]:
    labels = torch.arange(x.shape[0])
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


def compare_training(name: str, batch: int, rounds: int) -> list[Comparison]:
    x = make_images(batch)
    models = {"ours": build_ours(name), "torchvision": build_torchvision(name), "timm": build_timm(name)}
    seconds = time_in_turn({key: make_training_step(model, x) for key, model in models.items()}, rounds)
    return [compare(seconds, "ours", peer, Case("torch", name, batch, "training step")) for peer in PEERS]


def measure_errors(name: str) -> list[Figure]:
    """Measure the largest difference from the outputs in float64, relative to the largest output."""
    network, x = load(name), make_images(8).numpy()
    weights = initialize(network)
    make = partial(build, network, backend="torch", weights=weights)
    exact = run(make(dtype="float64"), x)
    models = {
        "evaluation": make(),
        "inference mode": make(mode="inference"),
        "inference mode, bfloat16": make(mode="inference", dtype="bfloat16"),
    }
    return [
        make_figure([float(abs(run(model, x) - exact).max() / abs(exact).max())], Case("torch", name, 8, what), "off")
        for what, model in models.items()
    ]


def compare_memory(name: str, batch: int) -> list[Comparison]:
    """Compare the memory of a model and two steps, each in a new process, after the framework is imported."""
    rows = []
    for what in ("evaluation", "training step", "inference mode"):
        sizes = [
            [measure_in_process(__file__, name, what, whose, batch) for whose in ("ours", "torchvision")]
            for _ in range(3)
        ]
        own, theirs = zip(*sizes, strict=True)
        rows.append(
            make_comparison(own, theirs, "torchvision", Case("torch", name, batch, f"{what}, peak memory"), "MiB")
        )
    return rows


def measure_memory(name: str, what: str, whose: str, batch: int) -> float:
    """Return the MiB of memory that building a model and running two steps takes."""

    def run_twice() -> None:
        settings = {"mode": "inference"} if what == "inference mode" else {}
        model = build_ours(name, **settings) if whose == "ours" else build_torchvision(name)
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
