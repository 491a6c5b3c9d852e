"""Training computes the same in every framework: gradients, running statistics, weights after some steps."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from resnet_spec import Network, build, dump, loads, run
from resnet_spec.backend import SGD, TrainingStep, load_backend
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import assert_close, relative_difference
from shared.bundled_networks import small_copy
from shared.every_operation import EVERY_OPERATION
from shared.frameworks import required
from shared.sampling import in_sweep, in_sweep_rows

SMALL = """
name: small
input: [3, 9, 8]
stem: {conv: {op: conv, out: 4, kernel: 3}, bn: norm, act: hard_sigmoid}
stages: {a: {block: basic, depth: 1, out: 6, stride: 2}}
head:
  gate: {block: squeeze_excite, reduced: 2}
  pool: {op: avg_pool, kernel: 3}
  flat: global_max_pool
  fc: {op: linear, out: 5}
"""
SGD_SETTINGS = SGD(rate=0.0625, momentum=0.875, weight_decay=2**-7)
"""Numbers that float32 holds exactly, since Paddle's optimizer keeps them in float32."""
LABELS = np.array([1, 3, 0, 4])


@pytest.fixture(params=["torch", "paddle", "flax"])
def framework(request: pytest.FixtureRequest) -> str:
    required(request.param)
    return str(request.param)


@pytest.fixture(params=["flax", "paddle"])
def compared(request: pytest.FixtureRequest) -> str:
    """A framework to compare with PyTorch."""
    required("torch")
    required(request.param)
    return str(request.param)


def make_network(name: str) -> Network:
    return loads(EVERY_OPERATION) if name == "every_operation" else small_copy(name)


def draw_images(network: Network, batch: int = 4) -> Array:
    return np.random.default_rng(2).standard_normal((batch, *network.input))


def make_model(network: Network, backend: str) -> Any:
    return build(network, backend=backend, weights=comparison_weights(network), dtype="float64")


def is_unchanged(model: Any) -> bool:
    weights = dump(model)
    return all(np.array_equal(weights[name], array) for name, array in comparison_weights(model.network).items())


class Training(NamedTuple):
    """The first of five steps, and the weights after the first and after the last."""

    first: TrainingStep
    after_one: dict[str, Array]
    after_five: dict[str, Array]


@cache
def train(name: str, backend: str) -> Training:
    network = make_network(name)
    module, model = load_backend(backend), make_model(network, backend)
    paths = [part.path for part in network.nodes()]
    first = step = module.step(model, draw_images(network), LABELS, SGD_SETTINGS, capture=paths)
    after_one = dump(model)
    for _ in range(4):  # the same paths again: others would be compiled again
        step = module.step(model, draw_images(network), LABELS, SGD_SETTINGS, step.optimizer, paths)
    return Training(first, after_one, dump(model))


def largest_magnitude(gradients: dict[str, Array]) -> float:
    return max(float(np.abs(gradient).max()) for gradient in gradients.values())


@pytest.mark.parametrize("name", ["every_operation", *in_sweep("resnet18")])
@pytest.mark.share(2)
def test_gradients_and_weights_are_those_of_torch(compared: str, name: str) -> None:
    actual, expected = train(name, compared), train(name, "torch")
    gradients = dict(expected.first.gradients)
    assert_close(dict(actual.first.gradients), gradients, 1e-12, largest_magnitude(gradients))
    output_gradients = dict(expected.first.output_gradients)
    assert len(output_gradients) == len(list(make_network(name).nodes())) + 2  # with those of the input and the output
    assert_close(dict(actual.first.output_gradients), output_gradients, 1e-12, largest_magnitude(output_gradients))
    actual_statistics, expected_statistics = (
        {path: array for path, array in training.after_one.items() if ".running_" in path}
        for training in (actual, expected)
    )
    assert_close(actual_statistics, expected_statistics, 1e-12)
    assert_close(actual.after_five, expected.after_five, 1e-10)


@pytest.mark.parametrize("name", ["every_operation", *in_sweep("resnet18")])
@pytest.mark.share(3)
def test_outputs_and_gradients_have_the_order_of_the_network(framework: str, name: str) -> None:
    network, first = make_network(name), train(name, framework).first
    assert list(first.gradients) == [path for path, weight in network.owners() if not weight.statistic]
    assert list(first.outputs) == [*(part.path for part in network.nodes()), ""]
    assert list(first.output_gradients) == ["input", *first.outputs]


def test_momentum_and_decay_update_every_parameter_as_the_contract_says(framework: str) -> None:
    network = loads(SMALL)
    model, optimizer = make_model(network, framework), None
    weights = dump(model)
    velocity = {name: np.zeros(1) for name, weight in network.owners() if not weight.statistic}
    for _ in range(3):
        step = load_backend(framework).step(model, draw_images(network), LABELS, SGD_SETTINGS, optimizer)
        optimizer = step.optimizer
        for name, gradient in step.gradients.items():
            decayed = gradient + SGD_SETTINGS.weight_decay * weights[name]
            velocity[name] = SGD_SETTINGS.momentum * velocity[name] + decayed
            weights[name] -= SGD_SETTINGS.rate * velocity[name]
    assert_close(
        {name: array for name, array in dump(model).items() if name in velocity},
        {name: weights[name] for name in velocity},
        1e-14,
    )


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
@pytest.mark.parametrize("decay", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.share(5)
def test_the_running_variance_is_the_one_in_the_spec(framework: str, variance: str, decay: float) -> None:
    network = loads(
        f"{{name: n, input: [6, 7, 5], stem: {{n: {{op: batch_norm, variance: {variance}, decay: {decay}}}}}}}"
    )
    model, x = make_model(network, framework), draw_images(network, batch=1)  # 35 values per channel
    load_backend(framework).step(model, x, np.array([0]), SGD())
    new = x.var(axis=(0, 2, 3), ddof=1 if variance == "unbiased" else 0)
    old, kept = comparison_weights(network)["n.running_var"], float(np.float32(decay))
    assert relative_difference(dump(model)["n.running_var"], kept * old + (1 - kept) * new) < 1e-14


@pytest.mark.parametrize(
    ("part", "source"), [("a.0", "act"), *in_sweep_rows(("", "input"), ("fc", "flat"), ("act", "bn"))]
)
@pytest.mark.share(3)
def test_a_part_on_its_own_has_the_gradients_that_it_has_in_the_network(framework: str, part: str, source: str) -> None:
    network, backend = loads(SMALL), load_backend(framework)
    paths = ["bn", "act", "a.0", "flat", "fc"]
    step = backend.step(make_model(network, framework), draw_images(network), LABELS, SGD_SETTINGS, capture=paths)
    x = {"input": draw_images(network), **step.outputs}[source]
    expected = {name: gradient for name, gradient in step.gradients.items() if name.startswith(part and f"{part}.")}
    actual = backend.vjp(make_model(network, framework), part, x, step.output_gradients[part])
    assert_close(actual, {"input": step.output_gradients[source], **expected}, 1e-12)


def test_a_part_on_its_own_computes_what_it_computes_in_the_network(framework: str) -> None:
    network, backend = loads(SMALL), load_backend(framework)
    model = make_model(network, framework)
    outputs = backend.run(model, draw_images(network), ["act", "a.0", "a.0.conv1"])
    of_part = backend.run(model, outputs["act"], ["a.0.conv1"], part="a.0")
    assert_close(of_part, {"a.0.conv1": outputs["a.0.conv1"], "": outputs["a.0"]}, 1e-15)


def test_computing_gradients_leaves_the_weights_unchanged(framework: str) -> None:
    network = loads(SMALL)
    model = make_model(network, framework)
    load_backend(framework).vjp(model, "", draw_images(network), np.ones((4, 5)))
    assert is_unchanged(model)


def test_a_training_run_that_fails_changes_no_statistics(framework: str) -> None:
    network = loads(
        "{name: f, input: [3, 4, 4], stem: {bn: norm, p: {op: global_avg_pool, keepdims: true}, bn2: norm}}"
    )
    model = make_model(network, framework)
    with pytest.raises(ValueError) as error:
        load_backend(framework).run(model, draw_images(network, batch=1), train=True)
    shape = (1, 1, 1, 3) if framework == "flax" else (1, 3, 1, 1)
    assert str(error.value) == (
        f"bn2 needs more than one value per channel in training, but its input has shape {shape}; "
        "use a larger batch or larger images"
    )
    assert is_unchanged(model)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_the_same_and_is_independent(framework: str, make_copy: Callable[[Any], Any]) -> None:
    network = loads(SMALL)
    model = make_model(network, framework)
    twin = make_copy(model)
    assert np.array_equal(run(twin, draw_images(network)), run(model, draw_images(network)))
    load_backend(framework).step(twin, draw_images(network), LABELS, SGD_SETTINGS)
    assert not np.array_equal(dump(twin)["fc.bias"], dump(model)["fc.bias"])
    assert is_unchanged(model)
