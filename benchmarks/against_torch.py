"""Ours in PyTorch against torchvision's and timm's: a JSON line for each comparison. ``run.py`` calls this, in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import PRODUCTS, ROUNDS, Row, compared, in_turn
from products import products
from torch.nn import functional
from torch_peers import timm, torchvision

from resnet_spec import build, load

TIMM = {"resnet18": "resnet18", "resnet50": "resnet50", "resnext50_32x4d": "resnext50_32x4d", "resnet152": "resnet152"}


def ours(name: str, **settings: Any) -> Any:
    return build(name, backend="torch", **settings)


def vision(name: str) -> Any:
    return getattr(torchvision.models, name)(weights=None).eval()


def timms(name: str) -> Any:
    return timm.create_model(TIMM[name], pretrained=False).eval()


def images(batch: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32))


def multiplied(name: str, batch: int) -> Callable[[], None]:
    """The network's matrix products, into memory that is there already."""
    found = products(load(name), batch)
    by_size = {
        one: (
            torch.randn(one.count, one.rows, one.inner),
            torch.randn(one.count, one.inner, one.columns),
            torch.empty(one.count, one.rows, one.columns),
        )
        for one in set(found)
    }

    def run() -> None:
        for one in found:
            left, right, out = by_size[one]
            torch.bmm(left, right, out=out) if one.count > 1 else torch.mm(left[0], right[0], out=out[0])

    return run


def construction(name: str) -> list[Row]:
    seconds = in_turn({"ours": lambda: ours(name), "torchvision": lambda: vision(name), "timm": lambda: timms(name)})
    return [
        compared(seconds, "ours", peer, framework="torch", model=name, batch=0, what="construction")
        for peer in ("torchvision", "timm")
    ]


def evaluated(model: Any, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    @torch.no_grad()
    def run() -> torch.Tensor:
        return model(x)

    return run


def evaluation(name: str, batch: int, *, compile: bool) -> list[Row]:
    x = images(batch)
    plain = vision(name)
    candidates: dict[str, Callable[[], Any]] = {
        "ours": evaluated(ours(name), x),
        "torchvision": evaluated(plain, x),
        "timm": evaluated(timms(name), x),
        "inference": evaluated(ours(name, mode="inference"), x),
        "bfloat16": evaluated(ours(name, mode="inference", dtype="bfloat16"), x),
        PRODUCTS: multiplied(name, batch),
    }
    pairs = [
        ("ours", "torchvision", "evaluation"),
        ("ours", "timm", "evaluation"),
        ("inference", "torchvision", "inference mode"),
        ("bfloat16", "torchvision", "inference mode, bfloat16"),
    ]
    if compile:
        candidates["compiled"] = evaluated(ours(name, mode="inference", compile=True), x)
        candidates["torchvision, compiled"] = evaluated(torch.compile(plain), x)
        candidates["ours, compiled"] = evaluated(torch.compile(ours(name)), x)
        pairs += [
            ("compiled", "torchvision", "inference mode, compiled"),
            ("ours, compiled", "torchvision, compiled", "evaluation, compiled"),
        ]
    seconds = in_turn(candidates)
    return [
        compared(seconds, own, peer, framework="torch", model=name, batch=batch, what=what) for own, peer, what in pairs
    ]


def trained(model: Any, x: torch.Tensor) -> Callable[[], None]:
    labels = torch.arange(x.shape[0])
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


def training(name: str, batch: int) -> list[Row]:
    x = images(batch)
    models = {"ours": ours(name), "torchvision": vision(name), "timm": timms(name)}
    seconds = in_turn({key: trained(model, x) for key, model in models.items()}, max(7, ROUNDS - 2))
    return [
        compared(seconds, "ours", peer, framework="torch", model=name, batch=batch, what="training step")
        for peer in ("torchvision", "timm")
    ]


def main(name: str, batches: list[int], compile: bool) -> None:
    rows = construction(name)
    for batch in batches:
        rows += evaluation(name, batch, compile=compile) + training(name, batch)
    for row in rows:
        print(json.dumps(row.json()))


if __name__ == "__main__":
    main(sys.argv[1], [int(word) for word in sys.argv[2].split(",")], "compile" in sys.argv[3:])
