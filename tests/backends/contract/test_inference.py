"""A model built for inference computes what the plain one does, and is still a model of its framework."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from resnet_spec import BackendError, Network, build, capture, dump, load_weights, loads, run
from resnet_spec.transforms.feature_outputs import with_feature_outputs
from resnet_spec.weights.canonical import Array, comparison_weights, initialize
from shared.array_differences import relative_difference
from shared.bundled_networks import shallow_copy, small_copy
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS, OPERATIONS
from shared.frameworks import required
from shared.sampling import in_sweep

SMALL = small_copy("resnet18", input=(3, 32, 32))
ONE_BLOCK = "{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}"
FROZEN = ["torch", "paddle", "flax"]
"""The backends whose models for inference are frozen; those of the others are evaluated as they are."""


def draw_images(network: Network) -> Array:
    return np.random.default_rng(0).standard_normal((2, *network.input))


def difference(actual: Array, expected: Array) -> float:
    """Return the relative difference in float64."""
    return relative_difference(actual.astype(float), expected.astype(float))


@pytest.mark.parametrize(
    ("name", "dtype", "gate"),
    [
        pytest.param("resnet18", "float64", 1e-12, marks=pytest.mark.sweep),
        pytest.param("preact_resnet18_cifar", "float64", 1e-12, marks=pytest.mark.sweep),
        ("timm/seresnet50", "float32", 1e-5),
    ],
)
@pytest.mark.share(2)
def test_it_computes_the_same(backend_name: str, name: str, dtype: str, gate: float) -> None:
    network = shallow_copy(name, input=(3, 48, 40))  # of full width, since runtimes choose kernels by the width
    weights, x = comparison_weights(network), draw_images(network)
    expected = run(build(network, backend="numpy", weights=weights), x)
    model = build(network, backend=backend_name, weights=weights, dtype=dtype, mode="inference")
    assert difference(run(model, x), expected) < gate
    assert difference(run(model, x[:1]), expected[:1]) < gate


EACH_OPERATION = [
    f"{{{before}x: {op}, flat: flatten}}"
    for before in ("", "conv: {op: conv, out: 4, kernel: 3, padding: 1, bias: true}, ", "pad: {op: zero_pad, top: 1}, ")
    for op in OPERATIONS
]
"""Every operation on the images themselves, and on the outputs of others, with which runtimes merge it."""

COUNTING_CHANNELS = [
    f"{{a: {{op: split_sum, parts: 2}}, x: {op}, flat: flatten}}"
    for op in ("blur_pool", "{op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true, count_padding: true}")
]
"""Operations that need to know the number of channels, after one that changes it."""

POOLINGS = [
    f"{{x: {{op: {op}, kernel: {kernel}, stride: {stride}, padding: {padding}, ceil: {ceil}}}, flat: flatten}}"
    for kernel, stride, padding in [(2, 2, 1), (2, 3, 1), (3, 2, 1), (3, 3, 0), (1, 2, 0), (2, 5, 1), (4, 3, 2)]
    for ceil in ("false", "true")
    for op in ("max_pool", "avg_pool", "avg_pool, count_padding: true")
]


def join_branches(branches: list[str]) -> Network:
    """Return a network of parallel branches, each with names of its own, whose outputs are concatenated."""
    renamed = (re.sub(r"\b(conv|pad|x|a|b|flat): ", rf"\g<1>_{index}: ", text) for index, text in enumerate(branches))
    stem = f"{{first: {{op: conv, out: 4, kernel: 1}}, all: {{combine: concat, branches: [{', '.join(renamed)}]}}}}"
    return loads(f"{{name: j, input: [4, 9, 12], stem: {stem}}}")


def check_inference(backend: str, network: Network) -> None:
    """Compare a model built for inference with the reference, on two batch sizes."""
    weights, x = comparison_weights(network), draw_images(network)
    expected = run(build(network, backend="numpy", weights=weights), x)
    model = build(network, backend=backend, weights=weights, dtype="float32", mode="inference")
    assert difference(run(model, x), expected) < 1e-5
    assert difference(run(model, x[:1]), expected[:1]) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "onnx", *in_sweep("paddle")])  # Flax runs the layers that it trains
@pytest.mark.parametrize(
    "network", [join_branches(EACH_OPERATION + COUNTING_CHANNELS), join_branches(POOLINGS)], ids=["each", "poolings"]
)
def test_each_operation_computes_the_same(backend: str, network: Network) -> None:
    required(backend)
    check_inference(backend, network)


@pytest.mark.parametrize("spec", [EVERY_OPERATION, MODERN_OPERATIONS], ids=["residual", "modern"])
@pytest.mark.share(2)
def test_all_operations_together_compute_the_same(backend_name: str, spec: str) -> None:
    check_inference(backend_name, loads(spec))


def test_its_weights_are_those_of_the_folded_network(backend_name: str) -> None:
    model = build(SMALL, backend=backend_name, mode="inference")
    weights = dump(model)
    assert {name: array.shape for name, array in weights.items()} == model.network.weights()
    assert "conv1.bias" in weights
    assert "bn1.weight" not in weights


def test_weights_can_be_set_later(backend_name: str) -> None:
    model = build(SMALL, backend=backend_name, mode="inference")
    other = build(SMALL, backend=backend_name, mode="inference", seed=1)
    x = draw_images(model.network)
    expected, before = run(model, x), run(other, x)
    load_weights(other, dump(model))
    assert difference(run(other, x), expected) < 1e-6
    assert difference(before, expected) > 1e-2


def test_outputs_of_parts_can_be_captured(backend_name: str) -> None:
    network = SMALL
    weights, x = initialize(network), draw_images(network)
    plain = build(network, backend=backend_name, weights=weights)
    model = build(network, backend=backend_name, weights=weights, mode="inference")
    paths = ["conv1", "relu", "layer2.0", "layer4"]
    actual, expected = capture(model, x, paths), capture(plain, x, ["bn1", *paths])
    assert difference(actual["conv1"], expected["bn1"]) < 1e-5
    assert all(difference(actual[path], expected[path]) < 1e-5 for path in paths[1:])


def test_a_network_can_have_several_outputs(backend_name: str) -> None:
    network = with_feature_outputs(SMALL, ["relu", "layer1.0", "layer2", "layer4"])
    x = draw_images(network)
    plain, model = build(network, backend=backend_name), build(network, backend=backend_name, mode="inference")
    for actual, expected in zip(run(model, x), run(plain, x), strict=True):
        assert difference(actual, expected) < 1e-5


@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_it_computes_in_bfloat16(name: str) -> None:
    required(name)
    if name == "paddle":
        import paddle

        if not paddle.base.core.supports_bfloat16():
            with pytest.raises(BackendError, match=r"it would compute in float32 all the same; use dtype float32$"):
                build(SMALL, backend=name, dtype="bfloat16", mode="inference")
            return
    network = SMALL
    weights, x = initialize(network), draw_images(network)
    model = build(network, backend=name, weights=weights, dtype="bfloat16", mode="inference")
    expected = run(build(network, backend="numpy", weights=weights), x)
    assert 1e-4 < difference(run(model, x), expected) < 3e-2
    # Paddle's parameters stay in float32, and its predictor rounds them.
    stored = np.dtype(np.float32 if name == "paddle" else ml_dtypes.bfloat16)
    assert {array.dtype for array in dump(model).values()} == {stored}


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickled])
@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.share(2)
def test_a_copy_is_independent(name: str, make_copy: Callable[[Any], Any]) -> None:
    required(name)
    model = build(SMALL, backend=name, mode="inference")
    x = draw_images(model.network)
    expected = run(model, x)
    twin = make_copy(model)
    load_weights(model, {name: array * 0 for name, array in dump(model).items()})
    assert np.array_equal(run(twin, x), expected)
    assert not run(model, x).any()


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("name", FROZEN)
def test_threads_call_a_new_model_at_once(name: str, count: int) -> None:
    """Eight threads make the first call of each of some models together, and all get the answer."""
    required(name)
    network = loads(ONE_BLOCK)
    weights, x = initialize(network), draw_images(network)
    expected = run(build(network, backend="numpy", weights=weights), x)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(count):
            model = build(network, backend=name, weights=weights, mode="inference", compile=name == "flax")
            barrier = Barrier(8)
            answers = pool.map(partial(call_together, model, x), [barrier] * 8)
            assert max(difference(answer, expected) for answer in answers) < 1e-5


def call_together(model: Any, x: Array, barrier: Barrier) -> Array:
    barrier.wait()
    answer: Array = run(model, x)
    return answer
