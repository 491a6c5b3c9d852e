"""Mixed precision: products in a 16-bit type, and weights, statistics, gradients and outputs in float32."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from resnet_spec import api, build, load_weights, loads, run
from resnet_spec.backend import SGD, BackendError, SlowTypeWarning, load_backend
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from shared.every_operation import EVERY_OPERATION
from shared.frameworks import required
from shared.small_network import SMALL, make_weights

FRAMEWORKS = ("torch", "paddle", "flax")
SLOW = [
    pytest.param("float16", marks=pytest.mark.sweep),
    "bfloat16",
]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    required(request.param)
    return str(request.param)


@cache
def small() -> Network:
    return loads(SMALL)


def draw_images(network: Network, batch: int = 4) -> Array:
    return np.random.default_rng(0).standard_normal((batch, *network.input), np.float32)


def build_mixed(framework: str, compute: str = "bfloat16") -> Any:
    return build(small(), backend=framework, weights=make_weights(), compute=compute)


@cache
def outputs_in_float64() -> Array:
    model = build(small(), backend="numpy", weights=make_weights())
    return np.asarray(run(model, draw_images(small())))


@pytest.mark.parametrize("compute", SLOW)
def test_outputs_are_float32_and_products_are_rounded(framework: str, compute: str) -> None:
    y, expected = run(build_mixed(framework, compute), draw_images(small())), outputs_in_float64()
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[compute]
    error = np.abs(y - expected).max() / np.abs(expected).max()
    assert y.dtype == np.float32
    assert unit / 64 < error < 4 * unit


def test_weights_statistics_and_gradients_stay_in_float32(framework: str) -> None:
    model, backend = build_mixed(framework), load_backend(framework)
    labels = np.array([0, 1, 2, 3])
    step = backend.step(model, draw_images(small()), labels, SGD())
    exact = backend.step(build(small(), backend=framework, weights=make_weights()), draw_images(small()), labels, SGD())
    assert {str(array.dtype) for array in (*backend.dump(model).values(), *step.gradients.values())} == {"float32"}
    assert 0 < abs(step.loss - exact.loss) < 0.02 * exact.loss
    moved = backend.dump(model)["bn1.running_mean"]
    assert not np.array_equal(moved, moved.astype(np.float16))  # the statistics are not rounded
    largest = max(float(np.abs(array).max()) for array in exact.gradients.values())
    differences = [np.abs(array - exact.gradients[name]).max() for name, array in step.gradients.items()]
    assert max(differences) < 0.05 * largest


def test_frameworks_agree_to_their_rounding() -> None:
    for name in FRAMEWORKS:
        required(name)
    outputs = [run(build_mixed(name), draw_images(small())) for name in FRAMEWORKS]
    scale = np.abs(outputs_in_float64()).max()
    assert max(np.abs(one - outputs[0]).max() for one in outputs) < 2.0**-7 * scale


@pytest.mark.parametrize("framework", ["torch", "paddle", pytest.param("flax", marks=pytest.mark.sweep)])
def test_every_operation_runs_and_has_gradients(framework: str) -> None:
    required(framework)
    network = loads(EVERY_OPERATION)
    model = build(network, backend=framework, compute="bfloat16")
    step = load_backend(framework).step(model, draw_images(network, 2), np.array([0, 1]), SGD())
    exact = build(network, backend="numpy")
    y, expected = run(model, draw_images(network, 2)), run(exact, draw_images(network, 2))
    assert all(np.isfinite(array).all() for array in step.gradients.values())
    assert step.gradients.keys() == {name for name, weight in network.owners() if not weight.statistic}
    assert y.dtype == np.float32
    assert y.shape == expected.shape


def test_a_model_can_be_copied_pickled_and_given_other_weights(framework: str) -> None:
    model, images = build_mixed(framework), draw_images(small())
    before = run(model, images)
    twins = [copy.deepcopy(model)]
    if framework == "torch":
        twins.append(pickle.loads(pickle.dumps(model)))
    load_weights(model, {name: array * 2 for name, array in make_weights().items()})
    assert not np.array_equal(run(model, images), before)
    for twin in twins:
        assert np.array_equal(run(twin, images), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compute": "int8"}, "compute is 'int8'; it can be bfloat16 or float16"),
        ({"compute": "bfloat16", "dtype": "float64"}, 'use dtype="float32"'),
        ({"compute": "bfloat16", "mode": "inference"}, 'in inference mode, dtype="bfloat16" computes in 16 bits'),
    ],
)
def test_what_mixed_precision_is_not_is_an_error(settings: dict[str, Any], message: str) -> None:
    required("torch")
    with pytest.raises(ValueError, match=message):
        build(small(), backend="torch", **settings)


@pytest.mark.parametrize("backend", ["numpy", "onnx"])
def test_a_backend_that_does_not_train_has_no_mixed_precision(backend: str) -> None:
    required(backend)
    with pytest.raises(BackendError, match=f"backend '{backend}' does not train with compute 'bfloat16'; leave"):
        build(small(), backend=backend, dtype="float32", compute="bfloat16")


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torch_refuses_tools_that_leave_autocast_out() -> None:
    required("torch")
    import torch

    model = build_mixed("torch")
    for convert in (torch.fx.symbolic_trace, torch.jit.script):
        with pytest.raises(RuntimeError, match=r"leave autocast out.*torch\.compile"):
            convert(model)


def test_torch_captures_products_and_norms_in_the_type() -> None:
    required("torch")
    import torch

    model, seen = build_mixed("torch"), {}
    for path in ("conv1", "bn1", "layer1.0.relu1", "fc"):
        model.get_submodule(path).register_forward_hook(lambda module, _, y, path=path: seen.update({path: y.dtype}))
    model(torch.from_numpy(draw_images(small())))
    assert set(seen.values()) == {torch.bfloat16}


class _Clock:
    """A clock that runs a number of seconds at each look, for one model after another."""

    def __init__(self, *seconds: float) -> None:
        self.steps = iter(second for each in seconds for second in [0.0, each] * 5)
        self.now = 0.0

    def __call__(self) -> float:
        self.now += next(self.steps)
        return self.now


@pytest.mark.parametrize(("seconds", "warns"), [((0.001, 0.006), True), ((0.001, 0.0011), False)])
def test_a_type_that_is_slower_here_is_warned_about_once(
    seconds: tuple[float, ...], warns: bool, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    required("torch")
    monkeypatch.setattr(api, "perf_counter", _Clock(*seconds))
    monkeypatch.setattr(load_backend("torch"), "finds_accelerator", lambda: False)
    api._warn_if_slower.cache_clear()
    warnings.simplefilter("always")
    for _ in range(2):
        build(small(), backend="torch", compute="bfloat16")
    messages = [str(warning.message) for warning in recwarn if warning.category is SlowTypeWarning]
    assert len(messages) == warns
    assert all("took 6 ms in bfloat16 and 1 ms in float32 just now" in message for message in messages)


def test_a_type_is_not_measured_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    required("torch")
    monkeypatch.setattr(api, "perf_counter", _Clock())
    monkeypatch.setattr(load_backend("torch"), "finds_accelerator", lambda: True)
    api._warn_if_slower.cache_clear()
    build(small(), backend="torch", compute="bfloat16")
    api._warn_if_slower.cache_clear()
