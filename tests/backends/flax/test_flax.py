"""What is specific to Flax: compilation, and that models look as its users expect and work with its own tools."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from resnet_spec import Network, build, dump, load, load_weights, loads, run
from resnet_spec.backend import SGD, BackendError, TrainingStep, load_backend
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import assert_close, relative_difference
from shared.every_operation import EVERY_OPERATION
from shared.frameworks import REQUIRED

try:
    FLAX = load_backend("flax")
except BackendError as error:
    if "flax" in REQUIRED:
        raise
    pytest.skip(str(error), allow_module_level=True)

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.core import Tracer

RUN_MODULE = importlib.import_module("resnet_spec_flax.run")  # resnet_spec_flax.run itself is the function

jax.config.update("jax_enable_x64", True)

WITH_DROPOUT = """
name: small
input: [3, 9, 8]
stem: {conv: {op: conv, out: 4, kernel: 3}, bn: norm, act: act}
stages: {a: {block: basic, depth: 1, out: 6, stride: 2}}
head: {drop: {op: dropout, rate: 0.25}, flat: global_avg_pool, fc: {op: linear, out: 5}}
"""
SMALL = WITH_DROPOUT.replace("0.25", "0")
FEW_PARTS = """
name: few
input: [3, 6, 5]
blocks: {one: {branch: {norm: norm, act: act}}}
stem: {conv: {op: conv, out: 5, kernel: 3}}
stages: {a: {block: one, depth: 1}}
head: {flat: global_avg_pool}
"""
SGD_SETTINGS = SGD(rate=0.0625, momentum=0.5, weight_decay=0.03125)
LABELS = np.array([1, 3, 0, 4])


def draw_images(network: Network, batch: int = 4) -> Array:
    return np.random.default_rng(2).standard_normal((batch, *network.input))


def make_model(network: Network, dtype: str = "float64") -> Any:
    return build(network, backend="flax", weights=comparison_weights(network), dtype=dtype)


def to_native(images: Array) -> jax.Array:
    """Convert (batch, channels, height, width) to (batch, height, width, channels)."""
    return jnp.asarray(images.transpose(0, 2, 3, 1))


def is_unchanged(model: Any) -> bool:
    weights = dump(model)
    return all(np.array_equal(weights[name], array) for name, array in comparison_weights(model.network).items())


@contextmanager
def record_compilations() -> Iterator[list[str]]:
    """Yield a list that gets one entry for each compilation by XLA inside the context."""
    compilations: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outlier", [1, 1000])
def test_running_statistics_are_accurate_far_from_zero(outlier: int) -> None:
    """E[x^2] - E[x]^2 would have no correct digit here: 1e6 squared is 1e12, and float32 has seven digits."""
    network = loads("{name: one, input: [6, 7, 5], stem: {n: {op: batch_norm, decay: 0.5}}}")
    model = make_model(network, dtype="float32")
    x = np.random.default_rng(0).standard_normal((4, *network.input)).astype(np.float32) + np.float32(1e6)
    x[0] *= outlier
    model.train()
    model(to_native(x))
    new, old = dump(model), comparison_weights(network)
    statistics = {"mean": x.mean(axis=(0, 2, 3), dtype=float), "var": x.var(axis=(0, 2, 3), ddof=1, dtype=float)}
    for name, of_batch in statistics.items():
        expected = 0.5 * old[f"n.running_{name}"] + 0.5 * of_batch
        assert (abs(new[f"n.running_{name}"] - expected) / abs(expected)).max() < 1e-4


def test_a_model_in_float32_stays_in_float32_where_jax_has_float64() -> None:
    network = loads(SMALL)
    model, paths = make_model(network, "float32"), [part.path for part in network.nodes()]
    step = FLAX.step(model, draw_images(network), LABELS, SGD_SETTINGS, capture=paths)
    arrays = [*step.outputs.values(), *step.gradients.values(), *step.output_gradients.values(), *dump(model).values()]
    assert {array.dtype for array in arrays} == {np.dtype("float32")}


def test_float64_needs_jax_enable_x64() -> None:
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(BackendError) as error:
            make_model(loads(SMALL))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert str(error.value) == (
        "JAX turns float64 into float32 unless 64-bit types are enabled for the whole process; "
        'set JAX_ENABLE_X64=1, or call jax.config.update("jax_enable_x64", True) first'
    )


def test_setting_weights_keeps_the_dtype_of_the_model() -> None:
    network = loads(SMALL)
    model = make_model(network, "float32")
    load_weights(model, comparison_weights(network))
    weights = dump(model)
    assert all(
        np.array_equal(weights[name], array.astype("float32")) for name, array in comparison_weights(network).items()
    )


# -- state, modes and random numbers -------------------------------------------------------------------------------


def read_state(model: Any) -> dict[str, Array]:
    """Return all state of a model, with the counts and keys of its random numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model)))
    return {
        jax.tree_util.keystr(path): np.asarray(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for path, x in leaves
    }


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("train", [False, True])
def test_running_a_model_leaves_its_state_and_mode_unchanged(mode: str, train: bool) -> None:
    network = loads(WITH_DROPOUT)
    model = make_model(network)
    getattr(model, mode)()
    before = read_state(model)
    assert any("count" in name for name in before)
    FLAX.run(model, draw_images(network), ["bn"], train=train)
    FLAX.vjp(model, "", draw_images(network), np.ones((4, 5)))
    after = read_state(model)
    assert all(np.array_equal(after[name], array) for name, array in before.items())
    assert (model.bn.use_running_average, model.drop.deterministic) == (mode == "eval", mode == "eval")


def test_each_step_draws_new_random_numbers_and_leaves_the_mode_unchanged() -> None:
    network = loads(WITH_DROPOUT.replace("flat: global_avg_pool", "flat: flatten"))
    model = make_model(network)
    first = FLAX.step(model, draw_images(network), LABELS, SGD_SETTINGS, capture=["drop"])
    second = FLAX.step(model, draw_images(network), LABELS, SGD_SETTINGS, first.optimizer, ["drop"])
    assert not np.array_equal(first.outputs["drop"] == 0, second.outputs["drop"] == 0)
    assert (model.bn.use_running_average, model.drop.deterministic) == (True, True)


def test_two_dropouts_draw_different_random_numbers() -> None:
    network = loads("{name: d, input: [3, 16, 16], stem: {a: {op: dropout, rate: 0.25}, b: {op: dropout, rate: 0.25}}}")
    outputs = FLAX.run(make_model(network), np.ones((4, *network.input)), ["a"], train=True)
    assert sorted(set(outputs["a"].ravel())) == [0, 1 / 0.75]
    assert np.mean(outputs["a"] == 0) == pytest.approx(0.25, abs=0.03)
    assert np.mean(outputs[""][outputs["a"] > 0] == 0) == pytest.approx(0.25, abs=0.03)


def test_train_and_eval_switch_norms_and_dropout() -> None:
    network = loads(WITH_DROPOUT)
    model, x = make_model(network), draw_images(network)
    for mode in ("train", "eval"):
        expected = FLAX.run(make_model(network), x, ["drop"], train=mode == "train")["drop"]
        getattr(model, mode)()
        outputs: dict[str, jax.Array] = {}

        def hook(path: str, y: jax.Array, outputs: dict[str, jax.Array] = outputs) -> jax.Array:
            outputs[path] = y
            return y

        model(to_native(x), hook)
        assert relative_difference(np.asarray(outputs["drop"]).transpose(0, 3, 1, 2), expected) < 1e-14
        load_weights(model, comparison_weights(network))


# -- errors --------------------------------------------------------------------------------------------------------


def test_errors_do_not_have_the_notes_that_jax_adds() -> None:
    network = loads("{name: o, input: [3, 1, 1], stem: {a: {b: norm}}}")
    with pytest.raises(ValueError, match=r"^a\.b needs more than one value per channel in training") as error:
        FLAX.run(make_model(network), np.ones((1, 3, 1, 1)), train=True)
    assert error.value.__notes__ == []


@pytest.mark.parametrize("name", ["train", "network", "sow"])
def test_a_layer_that_would_hide_an_attribute_of_its_module_is_refused(name: str) -> None:
    """The reader of specs refuses the known names. This check is for attributes that a later Flax may add."""
    network = loads("{name: h, input: [3, 8, 8], stem: {a: relu}}")
    (leaf,) = network.leaves()
    with pytest.raises(BackendError) as error:
        make_model(replace(network, parts=(replace(leaf, path=name),)))
    assert str(error.value) == f"ResNet has an attribute {name!r} in Flax, so no layer of it can have that name"


# -- compilation and memory ----------------------------------------------------------------------------------------


def test_building_compiles_nothing() -> None:
    weights = comparison_weights(load("resnet18", classes=11))
    with record_compilations() as compilations:
        build("resnet18", backend="flax", classes=11, weights=weights)
    assert compilations == []


def test_arrays_are_freed_once_the_model_has_its_own() -> None:
    network = load("resnet18")
    weights = comparison_weights(network, 0)
    kernels = [weakref.ref(array) for array in weights.values() if array.ndim == 4]
    model = FLAX.build(network, weights, "float64")
    jax.block_until_ready(nnx.state(model))
    assert not weights
    assert [kernel() for kernel in kernels] == [None] * len(kernels)


def test_running_a_model_returns_outputs_and_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet18", backend="flax")
    recorder = Mock(side_effect=RUN_MODULE._run)
    with monkeypatch.context() as patch:
        patch.setattr(RUN_MODULE, "_run", recorder)
        run(model, np.zeros((1, 3, 33, 33), np.float32))
    sizes = RUN_MODULE._run.lower(*recorder.call_args.args).compile().memory_analysis()
    assert sizes.argument_size_in_bytes > 4 * model.network.parameters
    assert sizes.output_size_in_bytes == 4 * 1000


def test_models_of_one_network_share_compiled_functions() -> None:
    def use_model(text: str) -> None:
        network = loads(text)
        model, images = make_model(network), draw_images(network)
        FLAX.run(model, images, ["bn"])
        FLAX.run(model, images, ["bn"], train=True)
        FLAX.step(model, images, LABELS, SGD_SETTINGS)

    with record_compilations() as compilations:
        use_model(SMALL.replace("out: 6", "out: 7"))
        assert compilations
        compilations.clear()
        use_model(SMALL.replace("out: 6", "out: 7"))
    assert compilations == []


@pytest.mark.sweep
def test_a_network_of_too_many_parts_is_not_compiled_and_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = loads(FEW_PARTS)
    paths = [part.path for part in network.nodes()]

    def use_model() -> tuple[dict[str, Array], TrainingStep, dict[str, Array], dict[str, Array]]:
        model, images = make_model(network), draw_images(network)
        outputs, gradients = FLAX.run(model, images, paths, train=True), FLAX.vjp(model, "", images, np.ones((4, 5)))
        return outputs, FLAX.step(model, images, LABELS, SGD_SETTINGS, capture=paths), gradients, dump(model)

    monkeypatch.setattr(RUN_MODULE, "MAX_COMPILED_PARTS", 2)
    use_model()  # compiles each operation
    with record_compilations() as compilations:
        outputs, step, gradients, weights = use_model()
    assert not compilations
    monkeypatch.undo()
    with record_compilations() as compilations:
        expected_outputs, expected_step, expected_gradients, expected_weights = use_model()
    assert compilations
    assert_close(outputs, expected_outputs, 1e-12)
    assert_close(step.gradients, expected_step.gradients, 1e-12)
    assert_close(step.output_gradients, expected_step.output_gradients, 1e-12)
    assert_close(gradients, expected_gradients, 1e-12)
    assert_close(weights, expected_weights, 1e-12)


def test_tracing_a_training_step_does_not_read_the_sharding_of_traced_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnx.Variable reads it when it is set. JAX then walks through all that was traced: quadratic in the depth."""

    def fail(tracer: Any) -> None:
        raise AssertionError("the sharding of a traced value was read")

    model = build("cifar/resnet20", backend="flax")
    model.train()
    monkeypatch.setattr(Tracer, "sharding", property(fail))
    before = np.asarray(model.bn1.mean[...])
    nnx.jit(lambda model, x: model(x))(model, jnp.ones((2, 32, 32, 3)))
    assert not np.array_equal(before, model.bn1.mean[...])


# -- models are Flax's ---------------------------------------------------------------------------------------------


def test_layers_are_of_flax() -> None:
    model = make_model(loads(EVERY_OPERATION))
    block = model.body.stages[0]
    layers = [model.conv, model.rows, model.fc1, block.norm.deep, block.norm2, block.drop]
    kinds = [nnx.Conv, nnx.LayerNorm, nnx.Linear, nnx.BatchNorm, nnx.GroupNorm, nnx.Dropout]
    assert [isinstance(layer, kind) for layer, kind in zip(layers, kinds, strict=True)] == [True] * 6


def test_paths_in_the_state_are_the_canonical_names_except_for_the_last_word() -> None:
    network = loads(EVERY_OPERATION)
    flax_names = {"weight": ("kernel", "scale"), "bias": ("bias",), "running_mean": ("mean",), "running_var": ("var",)}
    state = nnx.to_flat_state(nnx.state(make_model(network), (nnx.Param, nnx.BatchStat)))
    paths = {".".join(map(str, path)) for path, _ in state}
    assert len(paths) == len(network.weights())
    for name in network.weights():
        module, _, last = name.rpartition(".")
        assert paths & {f"{module}.{flax_name}" for flax_name in flax_names.get(last, (last,))}, name


def test_running_statistics_are_not_parameters() -> None:
    network = loads(EVERY_OPERATION)
    model = make_model(network)
    count = {kind: sum(x.size for x in jax.tree.leaves(nnx.state(model, kind))) for kind in (nnx.Param, nnx.BatchStat)}
    assert count == {nnx.Param: network.parameters, nnx.BatchStat: network.statistics}


def test_nnx_sorts_blocks_by_number() -> None:
    network = loads("{name: n, input: [3, 8, 8], stages: {a: {block: basic, depth: 12, out: 3}}}")
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(nnx.state(make_model(network)))[0]]
    blocks = [path[1].key for path in paths if path[0].key == "a"]
    assert blocks == sorted(blocks)
    assert set(blocks) == set(range(12))


def test_a_model_prints_like_one_of_flax() -> None:
    network = loads("{name: p, input: [3, 8, 8], stem: {a: [relu, {op: max_pool, kernel: 2}], s: batch_norm}}")
    text = str(make_model(network))
    before_norm, found, _ = text.partition("  s=BatchNorm2d(")
    assert found
    assert before_norm.splitlines() == [
        "ResNet( # Param: 6 (48 B), BatchStat: 6 (48 B), Total: 12 (96 B)",
        "  a=Numbered(",
        "    0=Function(name='relu'),",
        "    1=MaxPool2d(window=Window(kernel=(2, 2), stride=(1, 1), padding=(0, 0), dilation=(1, 1), ceil=False))",
        "  ),",
    ]


def test_a_clone_computes_the_same_and_is_independent() -> None:
    network = loads(SMALL)
    model = make_model(network)
    twin = nnx.clone(model)
    assert np.array_equal(run(twin, draw_images(network)), run(model, draw_images(network)))
    FLAX.step(twin, draw_images(network), LABELS, SGD_SETTINGS)
    assert not np.array_equal(dump(twin)["fc.bias"], dump(model)["fc.bias"])
    assert is_unchanged(model)


def test_a_model_can_be_split_and_merged_inside_jax_jit() -> None:
    network = loads(SMALL)
    model, x = make_model(network), draw_images(network)
    graph, state = nnx.split(model)
    y = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, to_native(x))
    assert relative_difference(np.asarray(y), run(model, x)) < 1e-14


def test_a_model_can_be_called_with_and_without_nnx_jit() -> None:
    network = loads(SMALL)
    model, x = make_model(network), draw_images(network)
    expected = run(model, x)
    assert relative_difference(np.asarray(model(to_native(x))), expected) < 1e-14
    assert relative_difference(np.asarray(nnx.jit(model)(to_native(x))), expected) < 1e-14


def test_a_training_loop_of_the_user_updates_weights_and_statistics() -> None:
    network = loads(SMALL)
    model, other, x = make_model(network), make_model(network), to_native(draw_images(network))
    optimizer = nnx.Optimizer(model, optax.sgd(SGD_SETTINGS.rate), wrt=nnx.Param)

    def compute_loss(model: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), jnp.asarray(LABELS)).mean()

    @nnx.jit
    def step(model: Any, optimizer: nnx.Optimizer[Any]) -> None:
        optimizer.update(model, nnx.grad(compute_loss)(model))

    model.train()
    step(model, optimizer)
    FLAX.step(other, draw_images(network), LABELS, SGD(SGD_SETTINGS.rate))
    assert_close(dump(model), dump(other), 1e-14)


def test_a_part_can_be_replaced() -> None:
    network = loads(SMALL)
    model, x = make_model(network), draw_images(network)
    model.fc = nnx.Linear(6, 2, param_dtype="float64", rngs=nnx.Rngs(0))
    model.a[0] = nnx.Conv(4, 6, (1, 1), param_dtype="float64", rngs=nnx.Rngs(0))
    model.act = nnx.tanh
    outputs = FLAX.run(model, x, ["bn", "act", "a.0", "flat"])
    convolved = np.einsum("bihw,io->bohw", outputs["act"], np.asarray(model.a[0].kernel[0, 0]))
    assert relative_difference(outputs["act"], np.tanh(outputs["bn"])) < 1e-14
    assert relative_difference(outputs["a.0"], convolved) < 1e-14
    assert relative_difference(outputs[""], outputs["flat"] @ np.asarray(model.fc.kernel[...])) < 1e-14


TINY = """
name: tiny
input: [3, 8, 8]
stem: {conv1: {op: conv, out: 4, kernel: 3}, dropout: {op: dropout, rate: 0.5}}
"""


def test_images_with_channels_first_are_refused_in_our_words() -> None:
    model = build(loads(TINY), backend="flax")
    message = (
        r"^tiny takes images \(batch, height, width, 3\) in Flax, not \(2, 3, 8, 8\); "
        r"use images\.transpose\(0, 2, 3, 1\), or resnet_spec\.run"
    )
    for call in (model, nnx.jit(model), build(loads(TINY), backend="flax", mode="inference", compile=True)):
        with pytest.raises(ValueError, match=message):
            call(jnp.zeros((2, 3, 8, 8)))
    model.conv1 = nnx.Conv(5, 4, (3, 3), rngs=nnx.Rngs(0))
    assert model(jnp.zeros((2, 8, 8, 5))).shape == (2, 8, 8, 4)


def test_dropout_follows_the_seed() -> None:
    """The same seed draws the same units, and another one draws others. Weights are given, so they do not differ."""
    network = loads(TINY)
    weights = dump(build(network, backend="flax"))

    def train_outputs(seed: int) -> Array:
        model = build(network, backend="flax", weights=weights, seed=seed)
        model.train()
        return np.asarray(model(jnp.ones((2, 8, 8, 3))))

    assert (train_outputs(3) == train_outputs(3)).all()
    assert (train_outputs(3) != train_outputs(4)).any()
    assert (train_outputs(2**70) == train_outputs(2**70)).all()
