"""Emitted modules are what ``build`` makes: names of weights, outputs, gradients, statistics and initial weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import Network, build, emit, load, loads
from resnet_spec.library import bundled
from resnet_spec.ops import OPS, Constant, Normal, Uniform
from resnet_spec.parity.case import COMPARISON_SIZES, Case, without_randomness
from resnet_spec.parity.random_networks import generate_network
from resnet_spec.transforms.width_reduction import reduce_width
from shared import emitted_runner
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.frameworks import required
from shared.sampling import in_sweep

FAMILIES = [
    "resnet18",
    "preact_resnet18_cifar",
    "timm/mobilenetv2_100",
    "torchvision/densenet121",
    "timm/convnext_atto",
]
"""One network of each of some families: with projections, pre-activation, dropped shortcuts, concatenation, scales."""

SHARE = {"torch": 5, "paddle": 2, "flax": 1}
"""How many of the families are compared in each run of the tests; JAX compiles each of their layers."""

RANDOM_SHARE = {"torch": 4, "paddle": 2, "flax": 0}
TOLERANCES = {"output": 1e-12, "gradient": 1e-10, "weight": 1e-6}
"""The largest relative differences; of weights, the running statistics change in training, by a decay of 0.9.

``build`` rounds that to float32, as Paddle does; an emitted module says 0.9, for whoever reads it.
"""


def small(name: str) -> Network:
    """Return a bundled network with few channels, for small images."""
    network = load(name)
    for size in COMPARISON_SIZES:
        try:
            return reduce_width(load(name, input=(network.input[0], *size)))
        except ValueError:
            continue
    return reduce_width(network)


def compare(
    networks: Iterable[Network], backend: str, folder: Path, *, trains: bool = False, native: bool = False
) -> None:
    """Run emitted modules in a process of their own, and compare all that they give with built models."""
    framework = emitted_runner.FRAMEWORKS[backend]
    expected: dict[str, dict[str, Any]] = {}
    names: dict[str, list[str]] = {}
    for number, network in enumerate(networks):
        case = Case(without_randomness(network) if trains else network)
        path = folder / f"module{number}.py"
        path.write_text(emit(case.network, backend=backend, native=native), encoding="utf-8")
        model = build(case.network, backend=backend, weights=case.weights(), dtype="float64")
        weights = framework.weights(model)
        given = {**weights, "images": case.images()}
        cotangent = None
        if trains:
            cotangent = given["cotangent"] = np.random.default_rng(1).standard_normal(
                (case.batch, *network.output_shape)
            )
        np.savez(path.with_suffix(".given.npz"), **given)
        names[path.stem] = list(weights)
        expected[path.stem] = emitted_runner.results(framework, model, case.images(), cotangent)
    done = subprocess.run(
        [sys.executable, emitted_runner.__file__, str(folder), backend], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for stem, arrays in expected.items():
        found_names = json.loads((folder / f"{stem}.names.json").read_text(encoding="utf-8"))
        order = sorted if backend == "flax" else list
        assert order(found_names) == order(names[stem]), stem
        found = np.load(folder / f"{stem}.found.npz")
        assert sorted(found) == sorted(arrays), stem
        for name, array in arrays.items():
            kind = name if name == "output" else "gradient" if "gradient" in name else "weight"
            tolerance = TOLERANCES[kind]
            scale = max(np.abs(array).max(initial=0), 1e-300 if name == "output" else 1e-3)
            assert np.abs(found[name] - array).max(initial=0) <= tolerance * scale, (stem, name)


def shares(names: Sequence[str], share: dict[str, int], chunk: int) -> list[Any]:
    """Return backends with networks: the first ones as one test that always runs, the others in chunks in sweeps."""
    cases = []
    for backend, count in share.items():
        if count:
            cases.append(pytest.param(backend, names[:count], id=f"{backend}-share"))
        for number, start in enumerate(range(count, len(names), chunk)):
            part, marks = names[start : start + chunk], pytest.mark.sweep
            cases.append(pytest.param(backend, part, id=f"{backend}-{number}", marks=marks))
    return cases


ALL = [*FAMILIES, *(name for name in bundled.names() if name not in FAMILIES)]


@pytest.mark.parametrize(("backend", "names"), shares(ALL, SHARE, 20))
@pytest.mark.share(3)
def test_bundled_networks_are_those_that_build_makes(backend: str, names: Sequence[str], tmp_path: Path) -> None:
    required(backend)
    compare(map(small, names), backend, tmp_path)


SEEDS = [str(seed) for seed in range(60)]


@pytest.mark.parametrize(("backend", "seeds"), shares(SEEDS, RANDOM_SHARE, 20))
@pytest.mark.share(2)
def test_random_networks_are_those_that_build_makes(backend: str, seeds: Sequence[str], tmp_path: Path) -> None:
    required(backend)
    compare([generate_network(int(seed)) for seed in seeds], backend, tmp_path)


@pytest.mark.parametrize("backend", ["torch", "paddle", *in_sweep("flax")])
@pytest.mark.share(2)
def test_every_operation_is_that_which_build_makes(backend: str, tmp_path: Path) -> None:
    required(backend)
    networks = [loads(EVERY_OPERATION), loads(MODERN_OPERATIONS)]
    assert {type(leaf.op) for network in networks for leaf in network.leaves()} == set(OPS.values())
    compare(networks, backend, tmp_path)


TRAINED = ["resnet18", "timm/resnet50d"]


@pytest.mark.parametrize(
    ("backend", "names"),
    [("torch", TRAINED), ("paddle", TRAINED[:1]), pytest.param("flax", TRAINED[:1], marks=pytest.mark.sweep)],
)
@pytest.mark.share(2)
def test_gradients_and_statistics_are_those_of_build(backend: str, names: Sequence[str], tmp_path: Path) -> None:
    required(backend)
    compare([small(name) for name in names], backend, tmp_path, trains=True)


INITIALIZED = """
name: initialized
input: [3, 16, 16]
stem:
  conv1: {op: conv, out: 64, kernel: 3, bias: true}
  bn1: {op: batch_norm, gamma: 0.5}
  conv2: {op: conv, out: 96, kernel: 3, groups: 2, init: lecun_normal}
  bn2: batch_norm
  conv3: {op: conv, out: 64, kernel: 1, init: glorot_uniform}
  gamma: {op: scale, factor: 0.25}
head:
  pool: global_avg_pool
  fc: {op: linear, out: 50}
  last: {op: linear, out: 40, init: zeros, bias: false}
"""


@pytest.mark.parametrize("backend", ["torch", "paddle", "flax"])
def test_initial_weights_are_drawn_as_the_spec_says(backend: str, tmp_path: Path) -> None:
    required(backend)
    network = loads(INITIALIZED)
    (tmp_path / "initialized.py").write_text(emit(network, backend=backend), encoding="utf-8")
    model = emitted_runner.import_file(tmp_path / "initialized.py").build()
    weights = emitted_runner.FRAMEWORKS[backend].weights(model)
    for name, weight in network.owners():
        if weight.statistic:
            continue
        path, _, last = name.rpartition(".")
        candidates = [f"{path}.{last}" if path else last, f"{path}.kernel", f"{path}.scale"]
        values = next(weights[one] for one in candidates if one in weights)
        match weight.init:
            case Constant(value):
                assert np.all(values == value), name
            case Normal(std):
                assert abs(values.std() / std - 1) < 0.15, name
                assert np.abs(values).max() > 2 * std, name
            case Uniform(bound):
                assert 0.8 * bound < np.abs(values).max() <= bound * (1 + 1e-6), name
