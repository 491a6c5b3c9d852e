"""What is specific to Flax models built for inference: one compiled function, and convolutions as matrix products."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, dump, load_weights, loads, run
from resnet_spec.backend import SGD, BackendError, load_backend
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import relative_difference
from shared.frameworks import REQUIRED
from shared.sampling import in_sweep_rows

try:
    load_backend("flax")
except BackendError as error:
    if "flax" in REQUIRED:
        raise
    pytest.skip(str(error), allow_module_level=True)

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_spec_flax import inference

WIDE_BLOCKS = """
name: wide
input: [3, 16, 16]
stages: {a: {block: basic, depth: 2, out: 64, stride: 2}}
head: {pool: global_avg_pool, fc: {op: linear, out: 5}}
"""
ONE_BLOCK = "{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}"

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 16, 16))


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
    native, expected = to_native(x), run(build(network, backend="numpy"), x)
    assert difference(model(native), expected) < 1e-5
    assert difference(run(model, x), expected) < 1e-5
    assert difference(nnx.jit(lambda model, x: model(x))(model, native), expected) < 1e-5
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), nnx.clone(model)):
        assert np.array_equal(twin(native), model(native))
    twin, compilations = nnx.clone(model), model._program._run._cache_size()
    load_weights(model, {name: array * 0 for name, array in dump(model).items()})
    assert not model(native).any()
    assert difference(twin(native), expected) < 1e-5
    assert model._program._run._cache_size() == compilations


def update_state(model: nnx.Module) -> None:
    nnx.update(model, jax.tree.map(lambda array: array * 2, nnx.state(model)))


def set_kernel(model: Any) -> None:
    model.weights["a.0.conv2.kernel"].set_value(model.weights["a.0.conv2.kernel"].get_value() * 3)


def set_item(model: Any) -> None:
    model.weights["a.1.conv1.kernel"][...] = model.weights["a.1.conv1.kernel"][...] * 3


def move(model: Any) -> None:
    """Put other values on a device, as a user who restores or moves a model does."""
    graph, state = nnx.split(model)
    moved = jax.device_put(jax.tree.map(lambda array: array * 1.5, state), jax.devices()[0])
    nnx.update(model, nnx.state(nnx.merge(graph, moved)))


@pytest.mark.parametrize("compile", [False, True])
def test_a_change_of_its_state_shows_in_the_next_answer(compile: bool) -> None:
    model = build(loads(WIDE_BLOCKS), backend="flax", mode="inference", compile=compile)
    native = to_native(np.random.default_rng(0).standard_normal((2, *model.network.input)))
    for change in (update_state, set_kernel, set_item, move):
        before = np.asarray(model(native))
        change(model)
        after = np.asarray(model(native))
        assert difference(after, np.asarray(build(model.network, backend="flax", weights=dump(model))(native))) < 1e-5
        assert difference(after, before) > 1e-2


def replace_classifier(model: Any) -> None:
    model.fc = nnx.Linear(5, 5, rngs=nnx.Rngs(0))


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight": lambda model: model.fc.kernel.set_value(0),
    "a module": replace_classifier,
    "an appended module": lambda model: model.a.append(nnx.Linear(5, 5, rngs=nnx.Rngs(0))),
    "a deleted module": lambda model: delattr(model, "fc"),
    "the weights": lambda model: setattr(model, "weights", None),
    "the mode": lambda model: model.train(),
    "an attribute": lambda model: model.set_attributes(deterministic=False),
    "a training step": lambda model: load_backend("flax").step(model, IMAGES, np.array([0, 1]), SGD()),
    "a training run": lambda model: load_backend("flax").run(model, IMAGES, train=True),
    "gradients": lambda model: load_backend("flax").vjp(model, "fc", np.ones((2, 64)), np.ones((2, 5))),
}
"""What would change the structure of a model, or train it."""


@pytest.mark.parametrize("compile", [False, True])
def test_a_change_is_refused_and_leaves_the_model_as_it_was(compile: bool) -> None:
    model = build(loads(WIDE_BLOCKS), backend="flax", mode="inference", compile=compile)
    expected = np.asarray(model(to_native(IMAGES)))
    for what, change in CHANGES.items():
        with pytest.raises((AttributeError, TypeError, BackendError), match='mode="training"'):
            change(model)
        assert np.array_equal(model(to_native(IMAGES)), expected), what
    dump(model)["fc.weight"] *= 3
    model.eval()
    assert not jax.tree.leaves(nnx.state(model, nnx.Param))
    assert np.array_equal(model(to_native(IMAGES)), expected)


@pytest.mark.parametrize(("batch", "convolutions"), [(1, 0), (2, 2)])
def test_few_pixels_are_multiplied_and_many_convolved(batch: int, convolutions: int) -> None:
    network = loads(ONE_BLOCK)
    model = build(network, backend="flax", mode="inference")
    x = np.random.default_rng(0).standard_normal((batch, *network.input))
    program = str(jax.make_jaxpr(lambda x: model(x))(to_native(x)))
    assert program.count("conv_general_dilated") == convolutions
    assert difference(run(model, x), run(build(network, backend="flax"), x)) < 1e-5


@pytest.mark.parametrize(("dtype", "gate"), [("float64", 1e-12), *in_sweep_rows(("float32", 2e-6))])
@pytest.mark.parametrize(("batch", "size"), [(1, (7, 10)), *in_sweep_rows((1, (8, 8)), (9, (13, 6)))])
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
        assert [kernel.shape[0] for _, kernel in model._program._packed.values()] == [4, 4, 4]


def test_the_options_for_launching_many_kernels_at_once_are_xlas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_choose_compiler_options", lambda: inference.COMMAND_BUFFERS)
    network = loads(ONE_BLOCK)
    model = build(network, backend="flax", mode="inference", compile=True)
    assert difference(model(to_native(IMAGES)), np.asarray(build(network, backend="flax")(to_native(IMAGES)))) < 1e-5
