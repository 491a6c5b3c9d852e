"""Initial weights have the distributions that they are defined by, and the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from scipy import stats

from resnet_spec import load, loads
from resnet_spec.weights import gaussian
from resnet_spec.weights.canonical import Array, initialize

LAYER = "{{name: s, input: [32, 8, 8], stem: {{a: {{{layer}}}}}}}"
CONV = "op: conv, out: 96, kernel: 5, init: {init}"
GROUPED = "op: conv, out: 96, kernel: 5, groups: 4, init: {init}"
LINEAR = "op: linear, out: 96, init: {init}"

# The distribution of each initialization, as a function of the shape (out, in / groups, height, width).
DEFINITIONS: dict[str, Callable[[Any], Any]] = {
    "he_normal_fan_out": lambda shape: stats.norm(scale=math.sqrt(2 / (shape[0] * math.prod(shape[2:])))),
    "he_normal_fan_in": lambda shape: stats.norm(scale=math.sqrt(2 / math.prod(shape[1:]))),
    "lecun_normal": lambda shape: stats.norm(scale=math.sqrt(1 / math.prod(shape[1:]))),
    "glorot_uniform": lambda shape: _uniform(math.sqrt(6 / ((shape[0] + shape[1]) * math.prod(shape[2:])))),
    "uniform_fan_in": lambda shape: _uniform(1 / math.sqrt(math.prod(shape[1:]))),
}


def _uniform(bound: float) -> Any:
    return stats.uniform(-bound, 2 * bound)


def initial_weight(layer: str, name: str = "a.weight", seed: int = 0) -> Array:
    text = LAYER.format(layer=layer)
    if "linear" in layer:
        text = text.replace("stem: {a:", "stem: {pool: flatten, a:")
    return initialize(loads(text), seed)[name]


@pytest.mark.parametrize("init", DEFINITIONS)
@pytest.mark.parametrize("layer", [CONV, GROUPED, LINEAR])
def test_distribution_is_as_defined(init: str, layer: str) -> None:
    weight = initial_weight(layer.format(init=init)).astype(np.float64)
    expected = DEFINITIONS[init](weight.shape)
    flat, count = weight.reshape(-1), weight.size
    assert count >= 19_200
    assert abs(flat.mean()) < 5 * expected.std() / math.sqrt(count)
    # The standard error of a variance: sqrt((kurtosis + 2) / n), by the excess kurtosis.
    error = math.sqrt((float(expected.stats("k")) + 2) / count)
    assert abs(flat.var() / expected.var() - 1) < 5 * error
    assert abs(stats.kurtosis(flat) - float(expected.stats("k"))) < 0.2
    assert stats.kstest(flat, expected.cdf).pvalue > 1e-4
    assert np.abs(flat).max() <= expected.support()[1]


@pytest.mark.parametrize("init", DEFINITIONS)
def test_weights_of_two_seeds_are_uncorrelated(init: str) -> None:
    first, second = (
        initial_weight(CONV.format(init=init)).reshape(-1),
        initial_weight(CONV.format(init=init), seed=1).reshape(-1),
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(first.size)


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        ("op: conv, out: 4, kernel: 1, init: zeros", "a.weight", 0.0),
        ("op: batch_norm", "a.weight", 1.0),
        ("op: batch_norm, gamma: 0", "a.weight", 0.0),
        ("op: batch_norm", "a.bias", 0.0),
        ("op: batch_norm", "a.running_mean", 0.0),
        ("op: batch_norm", "a.running_var", 1.0),
        ("op: group_norm, groups: 4", "a.weight", 1.0),
        ("op: layer_norm", "a.bias", 0.0),
    ],
)
def test_constants(layer: str, name: str, value: float) -> None:
    assert np.all(initial_weight(layer, name) == np.float32(value))


def test_bias_is_uniform_within_one_over_the_root_of_fan_in() -> None:
    bias = initial_weight("op: linear, out: 4000", "a.bias")
    bound = 1 / math.sqrt(32 * 8 * 8)
    assert stats.kstest(bias, _uniform(bound).cdf).pvalue > 1e-4
    assert 0.99 * bound < np.abs(bias).max() <= bound


def test_definitions_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.empty(96, 8, 5, 5)
    initializers: dict[str, Callable[[], Any]] = {
        "he_normal_fan_out": lambda: torch.nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
        "he_normal_fan_in": lambda: torch.nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
        "glorot_uniform": lambda: torch.nn.init.xavier_uniform_(weight),
        "uniform_fan_in": lambda: torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5)),
    }
    for init, fill in initializers.items():
        fill()
        assert float(weight.std()) == pytest.approx(DEFINITIONS[init](weight.shape).std(), rel=0.03)


# -- normally distributed values ----------------------------------------------------------------------------------


def normal_values(count: int, key: int = 1) -> Array:
    out = np.empty(count, np.float32)
    gaussian.fill_normal(out, np.random.Philox(key=key), 1.0, gaussian.allocate_workspace())
    return out


def test_values_are_normal_including_the_tails() -> None:
    values = np.concatenate([normal_values(gaussian.MAX_COUNT, key) for key in range(4)]).astype(np.float64)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    for bound in (1.0, 2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(bound) * values.size
        assert abs((np.abs(values) > bound).sum() - expected) < 5 * math.sqrt(expected)
    assert 4.5 < np.abs(values).max() < 6.7


def test_pairs_and_neighbours_are_uncorrelated() -> None:
    values = np.concatenate([normal_values(gaussian.MAX_COUNT, key) for key in range(4)]).reshape(4, -1)
    half = values.shape[1] // 2
    for first, second in ((values[:, :half], values[:, half:]), (values[:, :-1], values[:, 1:])):
        for power in (1, 2):
            correlation = np.corrcoef(first.reshape(-1) ** power, second.reshape(-1) ** power)[0, 1]
            assert abs(correlation) < 5 / math.sqrt(first.size)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 1001])
def test_any_count_can_be_initial_weight(count: int) -> None:
    assert np.isfinite(normal_values(count)).all()


def test_extreme_bits_give_finite_values() -> None:
    """The logarithm of the smallest and the largest integers would be the first to overflow."""

    class ExtremeBits:
        def random_raw(self, count: int) -> Array:
            edges = np.array([0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**30, 3], np.uint64)
            return np.resize(np.repeat(edges, 8) << np.uint64(32) | np.tile(edges, 8), count)

    out = np.empty(256, np.float32)
    gaussian.fill_normal(out, ExtremeBits(), 1.0, gaussian.allocate_workspace())  # type: ignore[arg-type]
    assert np.isfinite(out).all()


def test_bits_are_the_same_on_every_machine() -> None:
    """Initialization uses only operations that IEEE 754 rounds exactly, so these bits do not depend on the machine."""
    weights = initialize(load("resnet18"), seed=0)
    assert [float(value).hex() for value in weights["conv1.weight"].reshape(-1)[:2]] == [
        "-0x1.0157700000000p-8",
        "-0x1.ae40b40000000p-6",
    ]
    digest = sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
    assert digest == "4112b1bc3e3d93388400efb9717c8a872d82563d2a5258a2911f721a1d7e9e8f"


@pytest.mark.parametrize("cores", [1, 3])
def test_bits_do_not_depend_on_the_number_of_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = initialize(load("resnet18"))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    weights = initialize(load("resnet18"))
    assert all(weights[name].tobytes() == expected[name].tobytes() for name in expected)
