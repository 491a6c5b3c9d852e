"""Every operation computes in every backend what the reference computes, and has the gradient that PyTorch gives it."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec import Network, build, loads, run
from resnet_spec.backend import Backend, load_backend
from resnet_spec.ops import OPS
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import assert_close, relative_difference
from shared.bundled_networks import small_copy
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.frameworks import required
from shared.sampling import in_sweep, in_sweep_rows

NETWORKS = {
    "every_operation": loads(EVERY_OPERATION),
    "modern_operations": loads(MODERN_OPERATIONS),
    "resnet18": small_copy("resnet18"),
}
NORM = "{name: n, input: [6, 7, 5], stem: {n: %s}}"


@pytest.fixture(params=["torch", "paddle", "flax"])
def framework(request: pytest.FixtureRequest) -> str:
    required(request.param)
    return str(request.param)


def draw_images(network: Network, batch: int = 4, seed: int = 2) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, *network.input))


def run_parts(network: Network, backend: str, x: Array, *, train: bool, dtype: str = "float64") -> dict[str, Array]:
    """Return the outputs of all parts of a network with the same weights in each backend."""
    model = build(network, backend=backend, weights=comparison_weights(network), dtype=dtype)
    return load_backend(backend).run(model, x, [part.path for part in network.nodes()], train=train)


def test_the_network_has_every_operation() -> None:
    leaves = [leaf for network in NETWORKS.values() for leaf in network.leaves()]
    assert {type(leaf.op) for leaf in leaves} == set(OPS.values())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["torch", "paddle", "flax", "onnx"])
@pytest.mark.share(2)
def test_every_part_computes_what_the_reference_does(backend: str, name: str) -> None:
    required(backend)
    network = NETWORKS[name]
    x = draw_images(network)
    assert_close(run_parts(network, backend, x, train=False), run_parts(network, "numpy", x, train=False), 1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.share(2)
def test_every_part_computes_what_the_reference_does_in_training(framework: str, name: str) -> None:
    network = NETWORKS[name]
    x = draw_images(network)
    assert_close(run_parts(network, framework, x, train=True), run_parts(network, "numpy", x, train=True), 1e-12)


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "{op: group_norm, groups: 2}"])
def test_norms_are_accurate_far_from_zero(framework: str, norm: str) -> None:
    network = loads(NORM % norm)
    x = draw_images(network) + 100
    assert_close(run_parts(network, framework, x, train=True), run_parts(network, "numpy", x, train=True), 1e-12)


@pytest.mark.parametrize("epsilon", [0.002, 0.25, 8])
@pytest.mark.parametrize(
    "op",
    [
        "{op: batch_norm, epsilon: EPSILON}",
        "{op: group_norm, groups: 2, epsilon: EPSILON}",
        "{op: layer_norm, epsilon: EPSILON}",
        "{pool: global_avg_pool, norm: {op: layer_norm, epsilon: EPSILON}}",
        "{op: evo_norm_s0, groups: 2, epsilon: EPSILON}",
        "{op: filter_response_norm, epsilon: EPSILON}",
        "{op: standardized_conv, out: 4, kernel: 3, epsilon: EPSILON}",
    ],
)
@pytest.mark.share(4)
def test_a_norm_takes_a_large_epsilon(framework: str, op: str, epsilon: float) -> None:
    network = loads(NORM % op.replace("EPSILON", str(epsilon)))
    x = draw_images(network)
    for train in (False, True):
        actual, expected = (run_parts(network, name, x, train=train) for name in (framework, "numpy"))
        assert_close(actual, expected, 1e-12)


POOLINGS = [
    loads(
        f"{{name: pooling, input: [2, {size}, {size + 3}], stem: {{pool: "
        f"{{op: {op}, kernel: {kernel}, stride: {stride}, padding: {padding}, ceil: {ceil}}}}}}}"
    )
    for kernel, stride, padding in [
        (2, 2, 1),
        (2, 3, 1),
        (3, 2, 1),
        (3, 3, 0),
        (3, 1, 1),
        (1, 2, 0),
        (2, 5, 1),
        (4, 3, 2),
    ]
    for size in (4, 7, 8)
    for ceil in ("false", "true")
    for op in ("max_pool", "avg_pool", "avg_pool, count_padding: true")
]
"""Networks of one pooling, of even and odd sizes, with the number of windows rounded up and down."""


def run_without_weights(backend: Backend, network: Network, x: Array) -> Array:
    return backend.run(backend.build(network, {}, str(x.dtype)), x)[""]


def differentiate(backend: Backend, network: Network, x: Array, cotangent: Array) -> Array:
    """Return the vector-Jacobian product of a network without weights for its input."""
    return backend.vjp(backend.build(network, {}, "float64"), "", x, cotangent)["input"]


def select_poolings(backend: str, *sizes: int) -> list[Network]:
    """Return all poolings, for Flax those of certain heights only, since XLA compiles each of them."""
    return [network for network in POOLINGS if backend != "flax" or network.input[1] in sizes]


@pytest.mark.parametrize(("dtype", "gate"), [("float64", 1e-14), *in_sweep_rows(("float32", 1e-6))])
@pytest.mark.parametrize("backend", ["torch", "paddle", "flax", "onnx"])
@pytest.mark.share(2)
def test_pooling_computes_what_the_reference_does(backend: str, dtype: str, gate: float) -> None:
    module, reference = required(backend), required("numpy")
    for network in select_poolings(backend, 7, 8) if dtype == "float64" else select_poolings(backend, 4):
        x = draw_images(network, batch=2).astype(dtype)
        actual, expected = run_without_weights(module, network, x), run_without_weights(reference, network, x)
        assert actual.shape[1:] == network.part("pool").output_shape
        assert relative_difference(actual, expected.astype(dtype)) < gate, network.part("pool")


@pytest.mark.parametrize("backend", ["paddle", *in_sweep("flax")])
def test_the_gradient_of_pooling_is_that_of_torch(backend: str) -> None:
    module, torch = required(backend), required("torch")
    for network in select_poolings(backend, 7):
        x = draw_images(network, batch=2)
        cotangent = np.random.default_rng(1).standard_normal((2, *network.part("pool").output_shape))
        actual, expected = (differentiate(judge, network, x, cotangent) for judge in (module, torch))
        assert relative_difference(actual, expected) < 1e-14, network.part("pool")


def compute_gradient(op: str, backend: str, x: Array) -> Array:
    """Return the gradient of the sum of an operation's output."""
    network = loads(f"{{name: g, input: {list(x.shape[1:])}, stem: {{layer: {op}}}}}")
    return differentiate(required(backend), network, x, np.ones((len(x), *network.part("layer").output_shape)))


@pytest.mark.parametrize("op", ["global_max_pool", "{op: max_pool, kernel: 3}"])
def test_the_first_of_equal_maxima_has_the_gradient(framework: str, op: str) -> None:
    x = np.array([[[[0.0, 2, 1], [2, 2, 0], [0, 0, 2]]]])
    gradient = compute_gradient(op, framework, x)
    assert gradient.tolist() == [[[[0, 1, 0], [0, 0, 0], [0, 0, 0]]]]


@pytest.mark.parametrize(
    ("op", "gradients"),
    [
        ("relu", {0: 0}),
        ("relu6", {0: 0, 6: 0}),
        ("{op: leaky_relu, slope: 0.25}", {-1: 0.25, 0: 0.25, 1: 1}),
        ("elu", {0: 1}),
        ("hard_sigmoid", {-4: 0, -3: 0, -2: 1 / 6, 0: 1 / 6, 2: 1 / 6, 3: 0, 4: 0}),
        ("hard_swish", {-3: 0, 0: 0.5, 3: 1}),
    ],
)
def test_gradients_at_kinks(framework: str, op: str, gradients: dict[float, float]) -> None:
    actual = compute_gradient(op, framework, np.array([*gradients], float).reshape(1, 1, 1, -1))
    assert actual.ravel().tolist() == pytest.approx([*gradients.values()], rel=1e-15)


@pytest.mark.parametrize("backend", ["torch", "paddle"])
def test_hard_sigmoid_is_exact_to_the_last_bit(backend: str) -> None:
    network = loads("{name: h, input: [1, 1, 5], stem: {gate: hard_sigmoid}}")
    x = np.array([-4.0, -2, 0, 2, 4]).reshape(1, 1, 1, 5)
    assert run_without_weights(required(backend), network, x).ravel().tolist() == [0, 1 / 6, 3 / 6, 5 / 6, 1]


def test_a_network_without_weights_runs(backend_name: str) -> None:
    network = loads("{name: w, input: [3, 4, 4], stem: {pool: global_avg_pool}}")
    assert np.array_equal(run(build(network, backend=backend_name), np.ones((2, 3, 4, 4))), np.ones((2, 3)))
