"""What is specific to Paddle models built for inference: the predictor, and changes by the user."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, loads, run
from resnet_spec.weights.canonical import Array
from shared.frameworks import required


def build_resnet18() -> Any:
    required("paddle")
    return build("resnet18", backend="paddle", mode="inference", input=(3, 32, 32), classes=5)


def draw_images() -> Array:
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32))


def test_the_predictor_runs_the_model() -> None:
    model = build_resnet18()
    run(model, draw_images())
    assert "Predictor" in type(model._predictor).__name__


def test_a_layer_can_be_replaced() -> None:
    model = build_resnet18()
    import paddle

    run(model, draw_images())
    model.fc = paddle.nn.Linear(512, 7)
    assert run(model, draw_images()).shape == (2, 7)


SMALL = """
name: small
input: [3, 8, 8]
stages: {a: {block: basic, depth: 1, out: 4, stride: 2}}
head: {pool: global_avg_pool, fc: {op: linear, out: 5}}
"""


def set_state(model: Any) -> None:
    model.fc.set_state_dict({name: weight * 2 for name, weight in model.fc.state_dict().items()})


def train(model: Any) -> None:
    import paddle

    model.fc.weight.stop_gradient = False
    model(paddle.ones([2, 3, 8, 8])).sum().backward()
    paddle.optimizer.SGD(1.0, [model.fc.weight]).step()
    model.fc.weight.stop_gradient = True


def append(model: Any) -> None:
    import paddle

    model.a.append(paddle.nn.Dropout(1.0, mode="downscale_in_infer"))


CHANGES: list[Callable[[Any], object]] = [
    lambda model: model.fc.weight.set_value(model.fc.weight.numpy() * 2),
    lambda model: model.fc.weight.set_value(model.fc.weight * 2),
    lambda model: model.fc.weight.scale_(2.0),
    set_state,
    train,
    append,
]


@pytest.mark.parametrize("change", CHANGES, ids=["array", "tensor", "in place", "state", "optimizer", "append"])
def test_a_change_shows_in_the_next_answer(change: Callable[[Any], object]) -> None:
    required("paddle")
    model = build(loads(SMALL), backend="paddle", mode="inference")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    before = run(model, x)
    change(model)
    after = run(model, x)
    model.dtype = "float64"  # the layers run
    expected = run(model, x)
    assert np.abs(after - expected).max() < 1e-6
    assert np.abs(after - before).max() > 1e-3


def test_threads_share_one_model() -> None:
    required("paddle")
    model = build(loads(SMALL), backend="paddle", mode="inference")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    expected = run(build(loads(SMALL), backend="numpy"), x)
    with ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(lambda _: run(model, x), range(12)))
    assert max(np.abs(output - expected).max() for output in outputs) < 1e-5
