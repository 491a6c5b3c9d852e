"""Stochastic operations: their rate and scale by statistics, in every backend; in evaluation they are the identity."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec import Network, build, loads, run
from resnet_spec.backend import load_backend
from resnet_spec.weights.canonical import Array

BATCH, SIZE = 512, 10
X = np.ones((BATCH, 4, SIZE, SIZE))


def make_network(op: str) -> Network:
    return loads(f"{{name: chance, input: [4, {SIZE}, {SIZE}], stem: {{drop: {op}}}}}")


def run_in_training(backend: str, op: str) -> Array:
    """Return the output of an operation in training for images of ones."""
    model = build(make_network(op), backend=backend, dtype="float64")
    return load_backend(backend).run(model, X, train=True)[""]


@pytest.mark.parametrize(
    "op", ["{op: dropout, rate: 0.25}", "{op: drop_path, rate: 0.25}", "{op: drop_block, rate: 0.25, size: 3}"]
)
def test_evaluation_is_the_identity(backend_name: str, op: str) -> None:
    assert np.array_equal(run(build(make_network(op), backend=backend_name, dtype="float64"), X), X)


def test_dropout_drops_elements(training_name: str) -> None:
    y = run_in_training(training_name, "{op: dropout, rate: 0.25}")
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert set(np.unique(y.round(12))) == {0.0, round(1 / 0.75, 12)}


def test_drop_path_drops_whole_maps(training_name: str) -> None:
    y = run_in_training(training_name, "{op: drop_path, rate: 0.25}")
    maps = y.reshape(BATCH, -1)
    assert (maps == maps[:, :1]).all()
    assert (maps[:, 0] == 0).mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / BATCH))
    assert set(np.unique(y.round(12))) == {0.0, round(1 / 0.75, 12)}


@pytest.mark.parametrize("size", [1, 3, 4])
def test_drop_block_drops_the_same_squares_in_all_channels(training_name: str, size: int) -> None:
    y = run_in_training(training_name, f"{{op: drop_block, rate: 0.2, size: {size}}}")
    kept = y[:, 0] != 0
    assert ((y != 0) == kept[:, None]).all()
    # A pixel is kept if it is in no square. Near the edge there are fewer centres whose square would cover it.
    probability = 0.2 * SIZE**2 / size**2 / (SIZE - size + 1) ** 2
    before, after = (size - 1) // 2, size // 2
    centres = [min(index + after, SIZE - 1) - max(index - before, 0) + 1 for index in range(SIZE)]
    expected = np.array([[(1 - probability) ** (rows * columns) for columns in centres] for rows in centres])
    assert np.abs(kept.mean(axis=0) - expected).max() < 5 * np.sqrt(0.25 / BATCH)
    assert y.mean() == pytest.approx(1, abs=1e-6)
    assert np.unique(y.round(9)).size == 2


def test_drop_block_works_on_a_map_smaller_than_its_square(training_name: str) -> None:
    y = run_in_training(training_name, "{op: drop_block, rate: 0.2, size: 50}")
    assert np.isfinite(y).all()


def test_layers_draw_independent_random_numbers(training_name: str) -> None:
    two_layers = loads(
        f"{{name: two, input: [4, {SIZE}, {SIZE}], "
        "stem: {a: {op: drop_path, rate: 0.5}, b: {op: drop_path, rate: 0.5}}}"
    )
    y = load_backend(training_name).run(build(two_layers, backend=training_name, dtype="float64"), X, ["a"], train=True)
    kept_by_both = (y[""].reshape(BATCH, -1)[:, 0] != 0).mean()
    assert kept_by_both == pytest.approx(0.25, abs=0.08)
