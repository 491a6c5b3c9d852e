"""What is specific to Flax models built for inference: one compiled function, and convolutions as matrix products."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, dump, load_weights, loads, run
from resnet_spec.backend import BackendError, load_backend
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import relative_difference
from shared.frameworks import REQUIRED

try:
    load_backend("flax")
except BackendError as error:
    if "flax" in REQUIRED:
        raise
    pytest.skip(str(error), allow_module_level=True)

import jax
import jax.numpy as jnp
from flax import nnx

WIDE_BLOCKS = """
name: wide
input: [3, 16, 16]
stages: {a: {block: basic, depth: 2, out: 64, stride: 2}}
head: {pool: global_avg_pool, fc: {op: linear, out: 5}}
"""
ONE_BLOCK = "{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}"


def to_native(images: Array, dtype: str = "float32") -> jax.Array:
    """Convert (batch, channels, height, width) to (batch, height, width, channels)."""
    return jnp.asarray(images.transpose(0, 2, 3, 1), dtype)


def difference(actual: Array | jax.Array, expected: Array) -> float:
    """Return the relative difference in float64."""
    return relative_difference(np.asarray(actual, float), expected.astype(float))


def test_a_compiled_model_is_one_function_of_its_current_weights() -> None:
    network = loads(WIDE_BLOCKS)
    model = build(network, backend="flax", mode="inference", compile=True)
    x = np.random.default_rng(0).standard_normal((2, *network.input))
    native = to_native(x)
    assert difference(model(native), run(model, x)) < 1e-5
    assert difference(nnx.jit(lambda model, x: model(x))(model, native), run(model, x)) < 1e-5
    assert np.array_equal(pickle.loads(pickle.dumps(model))(native), model(native))
    assert np.array_equal(copy.deepcopy(model)(native), model(native))
    function = model._evaluator.compiled.function
    load_weights(model, {name: array * 0 for name, array in dump(model).items()})
    assert not model(native).any()
    assert model._evaluator.compiled.function is function
    model.fc = nnx.Linear(64, 7, rngs=nnx.Rngs(0))
    assert model(native).shape == (2, 7)


def test_threads_share_one_compiled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each makes its first call at the same time. They switch where the compiled function is made."""

    def call(_: int) -> jax.Array:
        barrier.wait()
        return model(native)

    def yield_and_compile(function: Any) -> Any:
        sleep(0.05)
        return jit(function)

    network, jit = loads(ONE_BLOCK), jax.jit
    monkeypatch.setattr(jax, "jit", yield_and_compile)
    model = build(network, backend="flax", mode="inference", compile=True)
    native = to_native(np.random.default_rng(0).standard_normal((2, *network.input)))
    expected, barrier = np.asarray(model._run_modules(native)), Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        assert max(difference(output, expected) for output in pool.map(call, range(6))) < 1e-6


def test_a_change_shows_in_the_next_answer() -> None:
    def change_state(model: nnx.Module) -> None:
        nnx.update(model, jax.tree.map(lambda array: array * 2, nnx.state(model)))

    def append(model: Any) -> None:
        model.fc = nnx.Sequential(model.fc, nnx.Linear(5, 5, rngs=nnx.Rngs(0)))

    network = loads(WIDE_BLOCKS)
    model = build(network, backend="flax", mode="inference", compile=True)
    native = to_native(np.random.default_rng(0).standard_normal((2, *network.input)))
    changes: list[Callable[[Any], object]] = [
        lambda model: model.fc.kernel.set_value(model.fc.kernel.get_value() * 2),
        lambda model: model.fc.kernel.__setitem__(..., model.fc.kernel[...] * 2),
        change_state,
        append,
        lambda model: model.fc.layers.append(nnx.Linear(5, 5, rngs=nnx.Rngs(1))),
    ]
    for change in changes:
        before = np.asarray(model(native))
        change(model)
        after = np.asarray(model(native))
        assert difference(after, np.asarray(model._run_modules(native))) < 1e-5
        assert difference(after, before) > 1e-2


@pytest.mark.parametrize(("batch", "convolutions"), [(1, 0), (2, 2)])
def test_few_pixels_are_multiplied_and_many_convolved(batch: int, convolutions: int) -> None:
    network = loads(ONE_BLOCK)
    model = build(network, backend="flax", mode="inference")
    x = np.random.default_rng(0).standard_normal((batch, *network.input))
    program = str(jax.make_jaxpr(lambda x: model(x))(to_native(x)))
    assert program.count("conv_general_dilated") == convolutions
    assert difference(run(model, x), run(build(network, backend="flax"), x)) < 1e-5


@pytest.mark.parametrize(("dtype", "gate"), [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize(("batch", "size"), [(1, (8, 8)), (1, (7, 10)), (9, (13, 6))])
def test_a_compiled_model_uses_winograd_for_wide_convolutions(
    batch: int, size: tuple[int, int], dtype: str, gate: float
) -> None:
    """Three of the convolutions are dense 3x3 ones at stride 1, with 64 channels or more. One batch has many tiles."""
    network = loads(
        f"""
name: s
input: [64, {size[0]}, {size[1]}]
stem:
  a: {{op: conv, out: 64, kernel: 3, padding: 1}}
  b: {{op: conv, out: 72, kernel: 3, padding: 2, bias: true}}
  c: {{op: conv, out: 64, kernel: 3, padding: 0, bias: true}}
  d: {{op: conv, out: 64, kernel: 3, padding: 1, stride: 2}}
  e: {{op: conv, out: 64, kernel: 3, padding: 2, dilation: 2}}
  f: {{op: conv, out: 64, kernel: 3, padding: 1, groups: 2}}
  g: {{op: conv, out: 63, kernel: 3, padding: 1}}
"""
    )
    x = np.random.default_rng(0).standard_normal((batch, *network.input))
    model = build(network, backend="flax", mode="inference", compile=True, dtype=dtype)
    for seed in range(2):
        weights = comparison_weights(network, seed)
        load_weights(model, weights)
        expected = run(build(network, backend="numpy", weights=weights), x)
        actual = np.asarray(model(to_native(x, dtype))).transpose(0, 3, 1, 2)
        assert difference(actual, expected) < gate
        assert [array.shape[0] for array in model._evaluator.compiled.arguments if array.ndim == 4].count(4) == 3
