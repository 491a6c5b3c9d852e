"""Ours in PaddlePaddle against paddle.vision's: a JSON line for each comparison. ``run.py`` calls this, in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
from measure import PRODUCTS, ROUNDS, Row, compared, in_turn
from paddle.nn import functional
from products import products

from resnet_spec import build, load


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


def construction(name: str) -> list[Row]:
    seconds = in_turn({"ours": lambda: ours(name), "paddle.vision": lambda: vision(name)})
    return [
        compared(seconds, "ours", "paddle.vision", framework="paddle", model=name, batch=0, what="construction"),
    ]


def evaluated(model: Any, x: Any) -> Callable[[], Any]:
    def run() -> Any:
        with paddle.no_grad():
            return model(x).numpy()

    return run


def evaluation(name: str, batch: int) -> list[Row]:
    x = images(batch)
    seconds = in_turn(
        {
            "ours": evaluated(ours(name), x),
            "paddle.vision": evaluated(vision(name), x),
            "inference": evaluated(ours(name, mode="inference"), x),
            "bfloat16": evaluated(ours(name, mode="inference", dtype="bfloat16"), x),
            PRODUCTS: multiplied(name, batch),
        }
    )
    pairs = {"ours": "evaluation", "inference": "inference mode", "bfloat16": "inference mode, bfloat16"}
    return [
        compared(seconds, own, "paddle.vision", framework="paddle", model=name, batch=batch, what=what)
        for own, what in pairs.items()
    ]


def trained(model: Any, x: Any) -> Callable[[], None]:
    labels = paddle.arange(x.shape[0])
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())

    def run() -> None:
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    return run


def training(name: str, batch: int) -> list[Row]:
    x = images(batch)
    models = {"ours": ours(name), "paddle.vision": vision(name)}
    seconds = in_turn({key: trained(model, x) for key, model in models.items()}, max(7, ROUNDS - 2))
    return [compared(seconds, "ours", "paddle.vision", framework="paddle", model=name, batch=batch, what=TRAINING)]


TRAINING = "training step"


def main(name: str, batches: list[int]) -> None:
    rows = construction(name)
    for batch in batches:
        rows += evaluation(name, batch) + training(name, batch)
    for row in rows:
        print(json.dumps(row.json()))


if __name__ == "__main__":
    main(sys.argv[1], [int(word) for word in sys.argv[2].split(",")])
