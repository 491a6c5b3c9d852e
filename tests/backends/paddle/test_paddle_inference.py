"""What is specific to Paddle models built for inference: the predictor, and changes by the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, dump, loads, run
from resnet_spec.backend import SGD, BackendError, load_backend
from resnet_spec.weights.canonical import Array
from shared.frameworks import required


def draw_images() -> Array:
    return np.random.default_rng(0).standard_normal((2, 3, 8, 8))


SMALL = """
name: small
input: [3, 8, 8]
stages: {a: {block: basic, depth: 1, out: 4, stride: 2}}
head: {pool: global_avg_pool, fc: {op: linear, out: 5}}
"""


def replace_classifier(model: Any) -> None:
    import paddle

    model.fc = paddle.nn.Linear(4, 7)


def add_parameter(model: Any) -> None:
    model.add_parameter("scale", model.create_parameter([1]))


def append(model: Any) -> None:
    import paddle

    model.a.append(paddle.nn.Dropout(1.0, mode="downscale_in_infer"))


def add_layer(model: Any) -> None:
    import paddle

    model.add_sublayer("fc2", paddle.nn.Tanh())


def trace(model: Any) -> None:
    import paddle

    paddle.jit.to_static(model)(paddle.ones([1, 3, 8, 8]))


CHANGES: dict[str, Callable[[Any], object]] = {
    "array": lambda model: model.fc.weight.set_value(model.fc.weight.numpy() * 2),
    "in place": lambda model: model.fc.weight.scale_(2.0),
    "state of a layer": lambda model: model.fc.set_state_dict(model.fc.state_dict()),
    "state": lambda model: model.set_state_dict(model.state_dict()),
    "state by its other name": lambda model: model.set_dict(model.state_dict()),
    "append": append,
    "replace": replace_classifier,
    "layer": add_layer,
    "parameter": add_parameter,
    "buffer": lambda model: model.register_buffer("scale", model.create_parameter([1])),
    "delete": lambda model: delattr(model, "fc"),
    "hook of a layer": lambda model: model.fc.register_forward_post_hook(print),
    "mode": lambda model: model.train(),
    "mode by its attribute": lambda model: setattr(model, "training", True),
    "type by its attribute": lambda model: setattr(model, "dtype", "float64"),
    "trace": trace,
    "training step": lambda model: load_backend("paddle").step(model, draw_images(), np.array([0, 1]), SGD()),
    "training run": lambda model: load_backend("paddle").run(model, draw_images(), train=True),
    "gradients": lambda model: load_backend("paddle").vjp(model, "fc", np.ones((2, 4)), np.ones((2, 5))),
}
"""What would change or train a model."""


def test_a_change_is_refused_and_leaves_the_model_as_it_was() -> None:
    required("paddle")
    model = build(loads(SMALL), backend="paddle", mode="inference")
    expected = run(model, draw_images())
    for what, change in CHANGES.items():
        with pytest.raises((AttributeError, TypeError, BackendError), match=r'mode="training"|load_weights'):
            change(model)
        assert np.array_equal(run(model, draw_images()), expected), what
    for tensor in model.state_dict().values():  # copies
        tensor.scale_(2.0)
    dump(model)["fc.weight"] *= 2
    assert [*model.parameters(), *model.sublayers()] == []
    assert not model.eval().training
    assert np.array_equal(run(model, draw_images()), expected)


def test_the_predictor_runs_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    required("paddle")
    from resnet_spec_paddle.modules import ResNet

    model = build(loads(SMALL), backend="paddle", mode="inference")
    monkeypatch.setattr(ResNet, "forward", None)
    assert run(model, draw_images()).shape == (2, 5)


def test_a_model_can_be_converted_to_another_type() -> None:
    required("paddle")
    model = build(loads(SMALL), backend="paddle", mode="inference")
    x, exact = draw_images(), run(build(model.network, backend="numpy", weights=dump(model)), draw_images())
    before = run(model, x)
    after = run(model.to(dtype="float64"), x)
    assert 1e-10 < abs(before - exact).max() < 1e-5
    assert abs(after - exact).max() < 1e-13
    assert {array.dtype for array in dump(model).values()} == {np.dtype("float64")}
    with pytest.raises(BackendError, match=r"cannot be float16; it can be bfloat16, float32, float64"):
        model.to(dtype="float16")
    assert np.array_equal(run(model, x), after)


def test_a_state_dict_is_one_of_paddles_own() -> None:
    required("paddle")
    model = build(loads(SMALL), backend="paddle", mode="inference")
    plain = build(model.network, backend="paddle")
    plain.set_state_dict(model.state_dict())
    assert {name: array.tobytes() for name, array in dump(plain).items()} == {
        name: array.tobytes() for name, array in dump(model).items()
    }
