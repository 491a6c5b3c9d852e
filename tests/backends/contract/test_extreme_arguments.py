"""Arguments at the ends of their ranges: what the core accepts, every backend computes as the reference does."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec import build, loads, run
from resnet_spec.backend import load_backend
from resnet_spec.weights.canonical import comparison_weights
from shared.array_differences import assert_close

EPSILONS = ("1.2e-38", "0.001", "0.0011", "0.5", "1.7e38")
NORMS = ("batch_norm", "layer_norm", "group_norm, groups: 2", "group_norm, groups: 4", "evo_norm_s0, groups: 2")
EXTREMES = [
    *(f"{norm}, epsilon: {epsilon}" for norm in (*NORMS, "filter_response_norm") for epsilon in EPSILONS),
    *(f"standardized_conv, out: 4, kernel: 3, epsilon: {epsilon}" for epsilon in EPSILONS),
    *(
        f"{pool}, kernel: {kernel}, stride: 65535, padding: {padding}, ceil: true"
        for pool in ("max_pool", "avg_pool", "avg_pool, count_padding: true")
        for kernel, padding in [(1, 0), (2, 1), (3, 1), (60, 30)]
    ),
    "conv, out: 4, kernel: 1, stride: 65535, dilation: 65535",
    "conv, out: 4, kernel: 3, padding: 40, dilation: 40",
    "conv, out: 4, kernel: 60, padding: 30",
    "blur_pool, stride: 65535",
    "drop_path, rate: 0.9999999",
    "dropout, rate: 0.9999999",
    "leaky_relu, slope: 0.9999999",
    "batch_norm, decay: 0.9999999",
    "zero_pad, top: 300",
    "pad_channels, before: 3000",
]


def branch(number: int, op: str) -> str:
    return f"{{op{number}: {{op: {op}}}, mean{number}: {{op: global_avg_pool, keepdims: true}}}}"


NETWORK = loads(
    "name: extremes\ninput: [4, 6, 5]\nstem:\n  all:\n    combine: concat\n    branches:\n"
    + "".join(f"      - {branch(number, op)}\n" for number, op in enumerate(EXTREMES))
)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.share(2)
def test_extreme_arguments_compute_what_the_reference_does(backend_name: str, train: bool) -> None:
    if train and backend_name == "onnx":
        return  # it does not train
    paths = [part.path for part in NETWORK.nodes() if not (train and part.path in RANDOM)]
    x = np.random.default_rng(1).standard_normal((3, *NETWORK.input))

    def outputs(backend: str) -> dict[str, np.ndarray]:
        model = build(NETWORK, backend=backend, weights=comparison_weights(NETWORK), dtype="float64")
        arrays = load_backend(backend).run(model, x, paths, train=train)
        return {path: arrays[path] for path in paths}

    assert_close(outputs(backend_name), outputs("numpy"), 1e-12)


RANDOM = {"", "all", *(f"{kind}{at}" for at, op in enumerate(EXTREMES) if "rate" in op for kind in ("op", "mean"))}
"""The parts that differ in each training pass."""


def test_a_group_norm_of_one_value_outputs_its_shift(backend_name: str) -> None:
    network = loads("{name: n, input: [4, 1, 1], stem: {norm: {op: group_norm, groups: 4}}}")
    weights = comparison_weights(network)
    y = run(build(network, backend=backend_name, weights=weights, dtype="float64"), np.ones((1, 4, 1, 1)))
    assert np.allclose(y.reshape(-1), weights["norm.bias"], rtol=1e-12)
