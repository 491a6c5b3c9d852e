"""What is specific to Paddle models built for inference: the predictor, and changes by the user."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_spec import build, run
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
