"""Initial weights: each scheme's statistics against its definition, and the same bits on every machine."""

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

# Each scheme's definition, from (out, in / groups, height, width): its distribution and what its spread is to be.
DEFINITIONS: dict[str, Callable[[Any], Any]] = {
    "he_normal_fan_out": lambda shape: stats.norm(scale=math.sqrt(2 / (shape[0] * math.prod(shape[2:])))),
    "he_normal_fan_in": lambda shape: stats.norm(scale=math.sqrt(2 / math.prod(shape[1:]))),
    "lecun_normal": lambda shape: stats.norm(scale=math.sqrt(1 / math.prod(shape[1:]))),
    "glorot_uniform": lambda shape: _even(math.sqrt(6 / ((shape[0] + shape[1]) * math.prod(shape[2:])))),
    "uniform_fan_in": lambda shape: _even(1 / math.sqrt(math.prod(shape[1:]))),
}


def _even(bound: float) -> Any:
    return stats.uniform(-bound, 2 * bound)


def drawn(layer: str, name: str = "a.weight", seed: int = 0) -> Array:
    text = LAYER.format(layer=layer)
    if "linear" in layer:
        text = text.replace("stem: {a:", "stem: {pool: flatten, a:")
    return initialize(loads(text), seed)[name]


@pytest.mark.parametrize("init", DEFINITIONS)
@pytest.mark.parametrize("layer", [CONV, GROUPED, LINEAR])
def test_a_scheme_has_the_distribution_of_its_definition(init: str, layer: str) -> None:
    found = drawn(layer.format(init=init)).astype(np.float64)
    wanted = DEFINITIONS[init](found.shape)
    flat, count = found.reshape(-1), found.size
    assert count >= 19_200
    assert abs(flat.mean()) < 5 * wanted.std() / math.sqrt(count)
    # The standard error of a variance: sqrt((kurtosis + 2) / n), by the excess kurtosis.
    error = math.sqrt((float(wanted.stats("k")) + 2) / count)
    assert abs(flat.var() / wanted.var() - 1) < 5 * error
    assert abs(stats.kurtosis(flat) - float(wanted.stats("k"))) < 0.2
    assert stats.kstest(flat, wanted.cdf).pvalue > 1e-4
    assert np.abs(flat).max() <= wanted.support()[1]


@pytest.mark.parametrize("init", DEFINITIONS)
def test_another_seed_gives_others_that_are_not_like_them(init: str) -> None:
    one, other = drawn(CONV.format(init=init)).reshape(-1), drawn(CONV.format(init=init), seed=1).reshape(-1)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(one.size)


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
    assert np.all(drawn(layer, name) == np.float32(value))


def test_a_bias_is_even_within_one_over_the_root_of_fan_in() -> None:
    bias = drawn("op: linear, out: 4000", "a.bias")
    bound = 1 / math.sqrt(32 * 8 * 8)
    assert stats.kstest(bias, _even(bound).cdf).pvalue > 1e-4
    assert 0.99 * bound < np.abs(bias).max() <= bound


def test_the_definitions_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.empty(96, 8, 5, 5)
    schemes: dict[str, Callable[[], Any]] = {
        "he_normal_fan_out": lambda: torch.nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
        "he_normal_fan_in": lambda: torch.nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
        "glorot_uniform": lambda: torch.nn.init.xavier_uniform_(weight),
        "uniform_fan_in": lambda: torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5)),
    }
    for init, fill in schemes.items():
        fill()
        assert float(weight.std()) == pytest.approx(DEFINITIONS[init](weight.shape).std(), rel=0.03)


# -- normal numbers -----------------------------------------------------------------------------------------------


def numbers(count: int, key: int = 1) -> Array:
    out = np.empty(count, np.float32)
    gaussian.fill_normal(out, np.random.Philox(key=key), 1.0, gaussian.allocate_workspace())
    return out


def test_normal_numbers_are_normal_to_the_tails() -> None:
    found = np.concatenate([numbers(gaussian.MAX_COUNT, key) for key in range(16)]).astype(np.float64)
    assert stats.kstest(found, "norm").pvalue > 1e-3
    for beyond in (1.0, 2.0, 3.0, 4.0):
        wanted = 2 * stats.norm.sf(beyond) * found.size
        assert abs((np.abs(found) > beyond).sum() - wanted) < 5 * math.sqrt(wanted)
    assert 4.5 < np.abs(found).max() < 6.7


def test_the_two_of_a_pair_and_neighbours_are_independent() -> None:
    found = np.concatenate([numbers(gaussian.MAX_COUNT, key) for key in range(4)]).reshape(4, -1)
    half = found.shape[1] // 2
    for one, other in ((found[:, :half], found[:, half:]), (found[:, :-1], found[:, 1:])):
        for power in (1, 2):
            correlation = np.corrcoef(one.reshape(-1) ** power, other.reshape(-1) ** power)[0, 1]
            assert abs(correlation) < 5 / math.sqrt(one.size)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 1001])
def test_any_count_can_be_drawn(count: int) -> None:
    assert np.isfinite(numbers(count)).all()


def test_every_drawn_bit_pattern_gives_a_finite_number() -> None:
    """The least and the largest that can be drawn, of which the logarithm goes wrong first."""

    class Chosen:
        def random_raw(self, count: int) -> Array:
            edges = np.array([0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**30, 3], np.uint64)
            return np.resize(np.repeat(edges, 8) << np.uint64(32) | np.tile(edges, 8), count)

    out = np.empty(256, np.float32)
    gaussian.fill_normal(out, Chosen(), 1.0, gaussian.allocate_workspace())  # type: ignore[arg-type]
    assert np.isfinite(out).all()


def test_the_bits_are_the_same_on_every_machine() -> None:
    """Only operations that IEEE 754 rounds exactly are used, so this holds wherever it is run."""
    weights = initialize(load("resnet18"), seed=0)
    assert [float(value).hex() for value in weights["conv1.weight"].reshape(-1)[:2]] == [
        "-0x1.0157700000000p-8",
        "-0x1.ae40b40000000p-6",
    ]
    digest = sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
    assert digest == "4112b1bc3e3d93388400efb9717c8a872d82563d2a5258a2911f721a1d7e9e8f"


@pytest.mark.parametrize("cores", [1, 3])
def test_the_bits_are_the_same_on_any_number_of_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = initialize(load("resnet18"))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    found = initialize(load("resnet18"))
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
