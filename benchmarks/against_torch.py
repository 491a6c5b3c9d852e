"""Ours in PyTorch against torchvision's and timm's: a line of JSON for each comparison. ``run.py`` calls this, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from measure import PRODUCTS, Case, Figure, Row, against, alone, asked, compared, figure, grown, in_turn, say
from products import products
from torch.nn import functional
from torch_peers import timm, torchvision

from resnet_spec import build, load, run
from resnet_spec.weights.canonical import initialize

PEERS = ("torchvision", "timm")


def ours(name: str, **settings: Any) -> Any:
    return build(name, backend="torch", **settings)


def vision(name: str) -> Any:
    return getattr(torchvision.models, name)(weights=None).eval()


def timms(name: str) -> Any:
    return timm.create_model(name, pretrained=False).eval()


def images(batch: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32))


def multiplied(name: str, batch: int) -> dict[str, Callable[[], None]]:
    """The network's matrix products, by torch's default, into memory that is there already, and by oneDNN's linear operator."""
    found = products(load(name), batch)
    by_size = {
        one: (
            torch.randn(one.count, one.rows, one.inner),
            torch.randn(one.count, one.columns, one.inner),
            torch.empty(one.count, one.columns, one.rows),
        )
        for one in set(found)
    }

    def by_default() -> None:
        for one in found:
            weight, x, out = by_size[one]
            torch.bmm(x, weight.mT, out=out) if one.count > 1 else torch.mm(x[0], weight[0].T, out=out[0])

    def by_onednn() -> None:
        for one in found:
            for weight, x in zip(*by_size[one][:2], strict=True):
                torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    return {PRODUCTS: by_default, f"{PRODUCTS}, oneDNN": by_onednn}


def construction(name: str, rounds: int) -> list[Row]:
    run = {"ours": lambda: ours(name), "torchvision": lambda: vision(name), "timm": lambda: timms(name)}
    seconds = in_turn(run, rounds)
    return [compared(seconds, "ours", peer, Case("torch", name, 0, "construction")) for peer in PEERS]


def evaluated(model: Any, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    @torch.no_grad()
    def run() -> torch.Tensor:
        return model(x)

    return run


def evaluation(name: str, batch: int, rounds: int) -> list[Row]:
    x = images(batch)
    seconds = in_turn(
        {
            "ours": evaluated(ours(name), x),
            "torchvision": evaluated(vision(name), x),
            "timm": evaluated(timms(name), x),
            "inference": evaluated(ours(name, mode="inference"), x),
            "bfloat16": evaluated(ours(name, mode="inference", dtype="bfloat16"), x),
            **multiplied(name, batch),
        },
        rounds,
    )
    rows = [
        ("ours", "torchvision", "evaluation"),
        ("ours", "timm", "evaluation"),
        ("inference", "torchvision", "inference mode"),
        ("bfloat16", "torchvision", "inference mode, bfloat16"),
    ]
    return [compared(seconds, own, peer, Case("torch", name, batch, what)) for own, peer, what in rows]


def compiled(name: str, batch: int, rounds: int) -> list[Row]:
    x, plain = images(batch), vision(name)
    seconds = in_turn(
        {
            "inference": evaluated(ours(name, mode="inference", compile=True), x),
            "ours": evaluated(torch.compile(ours(name)), x),
            "torchvision, compiled": evaluated(torch.compile(plain), x),
            "torchvision": evaluated(plain, x),
            **multiplied(name, batch),
        },
        rounds,
    )
    rows = [
        ("inference", "torchvision", "inference mode, compiled"),
        ("inference", "torchvision, compiled", "inference mode, compiled"),
        ("ours", "torchvision, compiled", "evaluation, compiled"),
    ]
    return [compared(seconds, own, peer, Case("torch", name, batch, what)) for own, peer, what in rows]


def trained(model: Any, x: torch.Tensor) -> Callable[[], None]:
    labels = torch.arange(x.shape[0])
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


def training(name: str, batch: int, rounds: int) -> list[Row]:
    x = images(batch)
    models = {"ours": ours(name), "torchvision": vision(name), "timm": timms(name)}
    seconds = in_turn({key: trained(model, x) for key, model in models.items()}, rounds)
    return [compared(seconds, "ours", peer, Case("torch", name, batch, "training step")) for peer in PEERS]


def lost(name: str) -> list[Figure]:
    """The largest difference from the outputs in float64, over the largest output."""
    network, x = load(name), images(8).numpy()
    weights = initialize(network)
    make = partial(build, network, backend="torch", weights=weights)
    exact = run(make(dtype="float64"), x)
    models = {
        "evaluation": make(),
        "inference mode": make(mode="inference"),
        "inference mode, bfloat16": make(mode="inference", dtype="bfloat16"),
    }
    return [
        figure([float(abs(run(model, x) - exact).max() / abs(exact).max())], Case("torch", name, 8, what), "off")
        for what, model in models.items()
    ]


def memory(name: str, batch: int) -> list[Row]:
    """Each time in a new process, from when the framework is imported: the model, and two steps."""
    rows = []
    for what in ("evaluation", "training step", "inference mode"):
        sizes = [[alone(__file__, name, what, whose, batch) for whose in ("ours", "torchvision")] for _ in range(3)]
        own, theirs = zip(*sizes, strict=True)
        rows.append(against(own, theirs, "torchvision", Case("torch", name, batch, f"{what}, peak memory"), "MiB"))
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
