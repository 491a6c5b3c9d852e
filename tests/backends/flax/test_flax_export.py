"""StableHLO programs: loaded again, they compute what the network computes, and a step trains as the backends do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, dump, load, loads, run
from resnet_spec.backend import SGD, ExportOptions, load_backend
from resnet_spec.network.network import Network
from resnet_spec.parity.case import Case
from resnet_spec.weights.canonical import Array
from shared.array_differences import relative_difference
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.frameworks import required
from shared.sampling import in_sweep

required("flax")
jax: Any = pytest.importorskip("jax")

SMALL = """
name: small
input: [3, 20, 16]
stem: {conv: {op: conv, out: 8, kernel: 3, padding: 1}, norm: norm, relu: relu}
stages: {layer1: {block: basic, depth: 2, out: 8, stride: 2}}
head: {pool: global_avg_pool, drop: {op: dropout, rate: 0}, fc: {op: linear, out: 5}}
"""


def export(network: Network, path: Path, dtype: str = "float32", **options: Any) -> Any:
    """Write a program of a network with random weights; return it, loaded again."""
    weights = Case(network).weights()
    model = build(network, backend="flax", weights=weights, dtype=dtype)
    load_backend("flax").export(model, path, ExportOptions("stablehlo", **options))
    return jax.export.deserialize(bytearray(path.read_bytes()))


def draw_images(network: Network, batch: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(0).standard_normal((batch, *network.input)).astype(dtype)


@pytest.mark.parametrize("spec", [MODERN_OPERATIONS, *in_sweep(EVERY_OPERATION)], ids=["modern", "every"])
def test_an_evaluation_is_that_of_the_network(spec: str, tmp_path: Path) -> None:
    network = loads(spec)
    program = export(network, tmp_path / "a.stablehlo")
    images = draw_images(network, 1)
    expected = run(build(network, backend="flax", weights=Case(network).weights()), images)
    assert relative_difference(np.asarray(program.call(images)), expected) <= 1e-6


def test_a_batch_may_be_free(tmp_path: Path) -> None:
    network = loads(SMALL)
    program = export(network, tmp_path / "a.stablehlo", batch=None)
    model = build(network, backend="flax", weights=Case(network).weights())
    for batch in (1, 3):
        images = draw_images(network, batch)
        assert relative_difference(np.asarray(program.call(images)), run(model, images)) <= 1e-6


def test_feature_maps_are_channels_first(tmp_path: Path) -> None:
    network = load("cifar/resnet20", outputs=["layer1", "layer3"])
    maps = export(network, tmp_path / "a.stablehlo").call(draw_images(network, 1))
    assert [array.shape for array in maps] == [(1, 16, 32, 32), (1, 64, 8, 8)]


@pytest.mark.parametrize("batch", [None, *in_sweep(8)])
@pytest.mark.sweep
def test_a_training_step_is_that_of_the_backend(batch: int | None, tmp_path: Path) -> None:
    network = loads(SMALL)
    program = export(network, tmp_path / "a.stablehlo", "float64", batch=batch, training_step=True)
    model = build(network, backend="flax", weights=Case(network).weights(), dtype="float64")
    weights, images = dump(model), draw_images(network, 8, "float64")
    velocities = {n: np.zeros(w.shape) for n, w in network.owners() if not w.statistic}
    labels, optimizer = np.arange(8) % 5, None
    for number in range(2):
        scalars = (np.float64(0.25), np.float64(0.5), np.float64(2**-7), np.uint32(number))
        weights, velocities, loss = program.call(weights, velocities, images, labels.astype(np.int32), *scalars)
        step = load_backend("flax").step(model, images, labels, SGD(0.25, 0.5, 2**-7), optimizer)
        optimizer = step.optimizer
        assert abs(float(loss) - step.loss) <= 1e-12
    expected = dump(model)
    assert sorted(weights) == sorted(expected)
    assert max(relative_difference(np.asarray(weights[name]), array) for name, array in expected.items()) <= 1e-12


def test_the_seed_of_a_step_draws_dropout(tmp_path: Path) -> None:
    network = loads(SMALL.replace("rate: 0", "rate: 0.5"))
    program = export(network, tmp_path / "a.stablehlo", batch=8, training_step=True)
    weights = {name: array.astype(np.float32) for name, array in Case(network).weights().items()}
    velocities = {n: np.zeros(w.shape, np.float32) for n, w in network.owners() if not w.statistic}
    arguments = (weights, velocities, draw_images(network, 8), np.zeros(8, np.int32))
    scalars = (np.float32(0.1), np.float32(0), np.float32(0))
    losses = [float(program.call(*arguments, *scalars, np.uint32(seed))[2]) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_the_text_is_stablehlo(tmp_path: Path) -> None:
    network = loads(SMALL)
    load_backend("flax").export(build(network, backend="flax"), tmp_path / "a.mlir", ExportOptions("stablehlo", 2))
    text = (tmp_path / "a.mlir").read_text()
    assert "stablehlo.convolution" in text
    assert "func.func public @main(%arg0: tensor<2x3x20x16xf32>" in text


def test_a_step_of_a_feature_network_is_refused(tmp_path: Path) -> None:
    network = load("cifar/resnet20", outputs=["layer1"])
    with pytest.raises(ValueError, match="has outputs of its own, so no loss is defined"):
        export(network, tmp_path / "a.stablehlo", training_step=True)
    assert not [*tmp_path.iterdir()]
