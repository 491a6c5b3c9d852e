"""What is particular to Flax: where its own layers mean something else, and that models are what its users expect."""

from __future__ import annotations

import copy
import importlib
import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest

from resnet_spec import Network, build, dump, load, load_weights, loads, run
from resnet_spec.backend import SGD, BackendError, TrainingStep, load_backend
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, AvgPool, MaxPool
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import REQUIRED, required

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

from resnet_spec_flax.layers import layer

RUN = importlib.import_module("resnet_spec_flax.run")  # the package has a function of the name

jax.config.update("jax_enable_x64", True)

# Every operation, on sizes that are odd in one axis or both. Where torch is the judge of gradients, the squash is a sigmoid: torch's own
# slope of hard_sigmoid is 1/6 in float32, whatever the type.
EVERY = """
name: every
takes: {variance: unbiased, squash: sigmoid}
input: [3, 39, 33]
blocks:
  gated:                                # by one number a channel, against an image
    takes: {squash: required}
    combine: multiply
    branch:
      squeeze: global_max_pool
      fc: {op: linear, out: in, bias: false}
      gate: squash
  peaked:
    combine: multiply
    branch:
      peak: {op: global_max_pool, keepdims: true}
      squash: tanh
  wide:
    takes: {out: required, variance: required, squash: required, stride: 1}
    before:
      norm.deep: {op: batch_norm, variance: variance, decay: 0.75}
      act1: hard_swish
    branch:
      conv1: {op: conv, out: out, kernel: 3, stride: stride, padding: 2, dilation: 2, groups: 4, bias: true}
      norm2: {op: group_norm, groups: 4, epsilon: 0.001}
      act2: silu
      drop: {op: dropout, rate: 0}
      gate: {block: gated, squash: squash}
      se: {block: squeeze_excite, reduced: 5}
    shortcut:
      pool: {op: avg_pool, kernel: 2, stride: stride, ceil: true}
      conv2: {op: conv, out: out, kernel: 1}
    after:
      norm3: {op: batch_norm, affine: false}
      act3: elu
  mixed:                                # by what neighbouring channels and the softmax of its parts make of it
    combine: multiply
    branch:
      squeeze: global_avg_pool
      conv: {op: channel_conv, kernel: 3}
      weigh: {op: split_softmax, parts: 3, groups: 2}
stem:
  pad: {op: zero_pad, top: 1, bottom: 2, left: 3}
  conv: {op: conv, out: 8, kernel: 5, stride: 2, padding: 1}
  rows: layer_norm
  act: {op: leaky_relu, slope: 0.1}
  maxpool: {op: max_pool, kernel: 3, stride: 2, padding: 1, ceil: true}
  counted: {op: avg_pool, kernel: 3, stride: 2, padding: 1, count_padding: true, ceil: true}
  standard: {op: standardized_conv, out: 12, kernel: 3, padding: 1, groups: 2, bias: true, epsilon: 1e-4}
  evo: {op: evo_norm_s0, groups: 4}
  blur: {op: blur_pool, stride: 1}
  response: {op: filter_response_norm, epsilon: 1e-3}
  mix: mixed
  wider: {op: pad_channels, before: 2, after: 1}
  side:
    split: true
    cascade: true
    combine: concat
    branches: [{sides.0: {op: conv, out: 5, kernel: 3, padding: 1}}, {sides.1: {op: conv, out: 5, kernel: 1}, norms.1: norm}, none]
  parts: {op: split_sum, parts: 5}
  three: {op: conv, out: 12, kernel: 1}
stages:
  body.stages: {block: wide, depth: 2, out: 12, stride: 2, variance: variance, squash: squash, as: "{index}"}
head:
  acts: [relu, relu6, gelu, {op: gelu, approximate: true}, sigmoid, tanh, identity]
  peak: {block: peaked}
  mean: {op: avg_pool, kernel: 2, stride: 2, padding: 1}
  squares: {op: drop_block, rate: 0}
  path: {op: drop_path, rate: 0}
  flat: flatten
  fc1: {op: linear, out: 6}
  rows2: layer_norm
  fc2: {op: linear, out: 5}
"""
SMALL = """
name: small
input: [3, 9, 8]
stem: {conv: {op: conv, out: 4, kernel: 3}, bn: norm, act: act}
stages: {a: {block: basic, depth: 1, out: 6, stride: 2}}
head: {drop: {op: dropout, rate: 0.25}, flat: global_avg_pool, fc: {op: linear, out: 5}}
"""
CALM = SMALL.replace("0.25", "0")
ONE = "{name: one, input: [6, 7, 5], stem: {n: %s}}"
OPTIMIZER = SGD(rate=0.0625, momentum=0.5, weight_decay=0.03125)
LABELS = np.array([1, 3, 0, 4])


def _network(name: str) -> Network:
    return loads(EVERY) if name == "every" else load("resnet18", classes=7, input=(3, 72, 56))


def _images(network: Network, batch: int = 4) -> Array:
    return np.random.default_rng(2).standard_normal((batch, *network.input))


def _model(network: Network, dtype: str = "float64") -> Any:
    return build(network, backend="flax", weights=comparison_weights(network), dtype=dtype)


def _native(images: Array) -> jax.Array:
    """(batch, channels, height, width) -> (batch, height, width, channels)."""
    return jnp.asarray(images.transpose(0, 2, 3, 1))


def _apart(found: Array, wanted: Array, scale: float | None = None) -> float:
    """The largest difference, relative to the largest magnitude, or to that of all that it belongs to."""
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert np.isfinite(found).all()
    return float(np.abs(found - wanted).max() / (scale or np.abs(wanted).max()))


def _same(found: dict[str, Array], wanted: dict[str, Array], gate: float, scale: float | None = None) -> None:
    assert wanted
    assert set(found) == set(wanted)
    apart = {name: _apart(found[name], array, scale) for name, array in wanted.items()}
    assert {name: value for name, value in apart.items() if value > gate} == {}


class Trained(NamedTuple):
    """What became of a model: its first step, and its weights after one and after five."""

    first: TrainingStep
    after_one: dict[str, Array]
    after_five: dict[str, Array]


@cache
def _trained(name: str, backend: str) -> Trained:
    network = _network(name)
    model = build(network, backend=backend, weights=comparison_weights(network), dtype="float64")
    paths = [part.path for part in network.nodes()]
    first = step = load_backend(backend).step(model, _images(network), LABELS, OPTIMIZER, capture=paths)
    after_one = dump(model)
    for _ in range(4):
        step = load_backend(backend).step(model, _images(network), LABELS, OPTIMIZER, step.optimizer, paths)
    return Trained(first, after_one, dump(model))


@pytest.fixture
def torch() -> None:
    required("torch")


@contextmanager
def _compilations() -> Iterator[list[str]]:
    """What XLA compiles, while the context lasts."""
    found: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# -- what it computes ---------------------------------------------------------------------------------------------


def test_every_operation_is_compared() -> None:
    assert {type(leaf.op) for leaf in loads(EVERY, squash="hard_sigmoid").leaves()} == set(OPS.values())


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("network", [loads(EVERY, squash="hard_sigmoid", variance="biased"), _network("resnet18")])
def test_every_node_is_the_references(network: Network, train: bool) -> None:
    paths = [part.path for part in network.nodes()]
    reference = build(network, backend="numpy", weights=comparison_weights(network))
    wanted = load_backend("numpy").run(reference, _images(network), paths, train=train)
    _same(FLAX.run(_model(network), _images(network), paths, train=train), wanted, 1e-12)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_gradients_of_every_parameter_are_torchs(torch: None, name: str) -> None:
    wanted = dict(_trained(name, "torch").first.gradients)
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    _same(dict(_trained(name, "flax").first.gradients), wanted, 1e-12, largest)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_gradients_of_every_node_are_torchs(torch: None, name: str) -> None:
    wanted = dict(_trained(name, "torch").first.output_gradients)
    assert len(wanted) == len(list(_network(name).nodes())) + 2  # the input and the output
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    _same(dict(_trained(name, "flax").first.output_gradients), wanted, 1e-12, largest)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_running_statistics_after_a_step_are_torchs(torch: None, name: str) -> None:
    found, wanted = (
        {path: array for path, array in _trained(name, backend).after_one.items() if ".running_" in path}
        for backend in ("flax", "torch")
    )
    _same(found, wanted, 1e-12)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_weights_after_five_steps_are_torchs(torch: None, name: str) -> None:
    _same(_trained(name, "flax").after_five, _trained(name, "torch").after_five, 1e-10)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_outputs_and_gradients_come_in_the_networks_order(name: str) -> None:
    network, first = _network(name), _trained(name, "flax").first
    assert list(first.gradients) == [path for path, weight in network.owners() if not weight.statistic]
    assert list(first.outputs) == [*(part.path for part in network.nodes()), ""]
    assert list(first.output_gradients) == ["input", *first.outputs]


def test_momentum_and_decay_move_every_parameter_as_is_promised() -> None:
    network = loads(CALM)
    model, optimizer = _model(network), None
    weights = dump(model)
    velocity = {name: np.zeros(1) for name, weight in network.owners() if not weight.statistic}
    for _ in range(3):
        step = FLAX.step(model, _images(network), LABELS, OPTIMIZER, optimizer)
        optimizer = step.optimizer
        for name, gradient in step.gradients.items():
            velocity[name] = OPTIMIZER.momentum * velocity[name] + (gradient + OPTIMIZER.weight_decay * weights[name])
            weights[name] -= OPTIMIZER.rate * velocity[name]
    _same({name: dump(model)[name] for name in velocity}, {name: weights[name] for name in velocity}, 1e-14)


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
@pytest.mark.parametrize("decay", [0.0, 0.1, 0.5, 0.9])
def test_the_running_variance_is_the_one_asked_for(variance: str, decay: float) -> None:
    network = loads(ONE % f"{{op: batch_norm, variance: {variance}, decay: {decay}}}")
    model, x = _model(network), _images(network, batch=1)  # 35 values a channel
    model.train()
    model(_native(x))
    new = x.var(axis=(0, 2, 3), ddof=1 if variance == "unbiased" else 0)
    old, kept = comparison_weights(network)["n.running_var"], float(np.float32(decay))
    assert _apart(dump(model)["n.running_var"], kept * old + (1 - kept) * new) < 1e-14


@pytest.mark.parametrize("outlier", [1, 1000])
def test_statistics_keep_their_accuracy_far_from_zero(outlier: int) -> None:
    """A mean of squares less a squared mean has none left here: 1e6 squared is 1e12, and float32 has seven digits."""
    network = loads(ONE % "{op: batch_norm, decay: 0.5}")
    model = _model(network, dtype="float32")
    x = np.random.default_rng(0).standard_normal((4, *network.input)).astype(np.float32) + np.float32(1e6)
    x[0] *= outlier
    model.train()
    model(_native(x))
    kept, old = dump(model), comparison_weights(network)
    for name, new in ("mean", x.mean(axis=(0, 2, 3), dtype=float)), ("var", x.var(axis=(0, 2, 3), ddof=1, dtype=float)):
        wanted = 0.5 * old[f"n.running_{name}"] + 0.5 * new
        assert (abs(kept[f"n.running_{name}"] - wanted) / abs(wanted)).max() < 1e-4


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "{op: group_norm, groups: 2}"])
def test_norms_keep_their_accuracy_far_from_zero(norm: str) -> None:
    network = loads(ONE % norm)
    x = _images(network) + 100
    wanted = load_backend("numpy").run(
        build(network, backend="numpy", weights=comparison_weights(network)), x, train=True
    )
    _same(FLAX.run(_model(network), x, train=True), wanted, 1e-12)


def test_a_model_in_float32_stays_in_float32_where_jax_has_float64() -> None:
    network = loads(EVERY)
    model, paths = _model(network, "float32"), [part.path for part in network.nodes()]
    step = FLAX.step(model, _images(network), LABELS, OPTIMIZER, capture=paths)
    arrays = [*step.outputs.values(), *step.gradients.values(), *step.output_gradients.values(), *dump(model).values()]
    assert {array.dtype for array in arrays} == {np.dtype("float32")}


def test_float64_without_jaxs_switch_is_an_error_that_says_what_to_do() -> None:
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(BackendError) as error:
            _model(loads(SMALL))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert str(error.value) == (
        "JAX makes float32 of float64 unless told otherwise, once for the whole process; "
        'set JAX_ENABLE_X64=1, or call jax.config.update("jax_enable_x64", True) first'
    )


def _pooling(op: MaxPool | AvgPool, size: int) -> Leaf:
    given = (2, size, size + 3)
    return Leaf("pool", op, given, op.output_shape(given))


POOLINGS = [
    _pooling(op, size)
    for kernel, stride, padding in [(2, 2, 1), (2, 3, 1), (3, 2, 1), (3, 3, 0), (1, 2, 0), (2, 5, 1), (4, 3, 2)]
    for size in (7, 8)
    for ceil in (False, True)
    for op in (
        MaxPool(kernel, stride, padding, ceil),
        AvgPool(kernel, stride, padding, ceil),
        AvgPool(kernel, stride, padding, ceil, count_padding=True),
    )
]


@pytest.mark.parametrize("leaf", POOLINGS, ids=lambda leaf: f"{leaf.op} {leaf.input_shape}")
def test_pooling_is_the_references(leaf: Leaf) -> None:
    from resnet_spec_numpy.layers import layer as reference

    x = np.random.default_rng(0).standard_normal((2, *leaf.input_shape))
    wanted, _ = reference(leaf, {}, x, None)
    assert _apart(np.asarray(layer(leaf, "float64")(_native(x))).transpose(0, 3, 1, 2), wanted) < 1e-14


def _slope(op: str, *values: float) -> list[float]:
    """An operation's own gradient at values in a row."""
    (leaf,) = loads(f"{{name: s, input: [1, 1, {len(values)}], stem: {{act: {op}}}}}").leaves()
    x = jnp.array(values, float).reshape(1, 1, -1, 1)
    return jax.grad(lambda x: layer(leaf, "float64")(x).sum())(x).ravel().tolist()


@pytest.mark.parametrize(
    ("op", "slopes"),
    [
        ("relu", {0: 0}),
        ("relu6", {0: 0, 6: 0}),
        ("{op: leaky_relu, slope: 0.25}", {-1: 0.25, 0: 0.25, 1: 1}),
        ("elu", {0: 1}),
        ("hard_sigmoid", {-3: 0, -2: 1 / 6, 0: 1 / 6, 3: 0}),
        ("hard_swish", {-3: 0, 0: 0.5, 3: 1}),
    ],
)
def test_slopes_where_an_operation_bends_are_torchs(op: str, slopes: dict[float, float]) -> None:
    assert _slope(op, *slopes) == pytest.approx(list(slopes.values()), rel=1e-15)


@pytest.mark.parametrize("op", ["global_max_pool", "{op: max_pool, kernel: 3}"])
def test_the_first_of_equal_maxima_has_the_gradient(op: str) -> None:
    (leaf,) = loads(f"{{name: m, input: [1, 3, 3], stem: {{pool: {op}}}}}").leaves()
    x = jnp.array([[0.0, 2, 1], [2, 2, 0], [0, 0, 2]]).reshape(1, 3, 3, 1)
    cotangent = jax.grad(lambda x: layer(leaf, "float64")(x).sum())(x)
    assert cotangent[0, :, :, 0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("part", "given"), [("", "input"), ("a.0", "act"), ("fc", "flat"), ("act", "bn")])
def test_a_part_alone_has_the_gradients_that_it_has_in_the_network(part: str, given: str) -> None:
    network = loads(CALM)
    step = FLAX.step(_model(network), _images(network), LABELS, OPTIMIZER, capture=["bn", "act", "a.0", "flat", "fc"])
    x = {"input": _images(network), **step.outputs}[given]
    wanted = {name: gradient for name, gradient in step.gradients.items() if name.startswith(part)}
    found = FLAX.vjp(_model(network), part, x, step.output_gradients[part])
    _same(found, {"input": step.output_gradients[given], **wanted}, 1e-12)


def test_a_part_alone_gives_what_it_gives_in_the_network() -> None:
    network = loads(CALM)
    model = _model(network)
    seen = FLAX.run(model, _images(network), ["act", "a.0", "a.0.conv1"])
    alone = FLAX.run(model, seen["act"], ["a.0.conv1"], part="a.0")
    _same(alone, {"a.0.conv1": seen["a.0.conv1"], "": seen["a.0"]}, 1e-15)


# -- what is left as it was, and what is not ----------------------------------------------------------------------


def _state(model: Any) -> dict[str, Array]:
    """All that a model keeps, the counts and keys of its dice too."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model)))
    return {
        jax.tree_util.keystr(path): np.asarray(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for path, x in leaves
    }


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("train", [False, True])
def test_looking_at_a_model_leaves_its_state_and_mode_as_they_were(mode: str, train: bool) -> None:
    network = loads(SMALL)
    model = _model(network)
    getattr(model, mode)()
    before = _state(model)
    assert any("count" in name for name in before)
    FLAX.run(model, _images(network), ["bn"], train=train)
    FLAX.vjp(model, "", _images(network), np.ones((4, 5)))
    assert all(np.array_equal(_state(model)[name], array) for name, array in before.items())
    assert (model.bn.use_running_average, model.drop.deterministic) == (mode == "eval", mode == "eval")


def test_a_step_throws_new_dice_and_leaves_the_mode_as_it_was() -> None:
    network = loads(SMALL.replace("flat: global_avg_pool", "flat: flatten"))
    model = _model(network)
    one = FLAX.step(model, _images(network), LABELS, OPTIMIZER, capture=["drop"])
    two = FLAX.step(model, _images(network), LABELS, OPTIMIZER, one.optimizer, ["drop"])
    dropped = one.outputs["drop"] == 0, two.outputs["drop"] == 0
    assert not np.array_equal(*dropped)
    assert (model.bn.use_running_average, model.drop.deterministic) == (True, True)


def test_two_dropouts_throw_dice_of_their_own() -> None:
    network = loads("{name: d, input: [3, 16, 16], stem: {a: {op: dropout, rate: 0.25}, b: {op: dropout, rate: 0.25}}}")
    seen = FLAX.run(_model(network), np.ones((4, *network.input)), ["a"], train=True)
    assert sorted(set(seen["a"].ravel())) == [0, 1 / 0.75]
    assert np.mean(seen["a"] == 0) == pytest.approx(0.25, abs=0.03)
    assert np.mean(seen[""][seen["a"] > 0] == 0) == pytest.approx(0.25, abs=0.03)


def test_one_value_a_channel_in_training_is_an_error_that_says_where() -> None:
    network = loads("{name: o, input: [3, 1, 1], stem: {a: {b: norm}}}")
    with pytest.raises(ValueError) as error:
        FLAX.run(_model(network), np.ones((1, 3, 1, 1)), train=True)
    assert str(error.value) == (
        "a.b is given one value a channel, (1, 1, 1, 3), which has no variance to train with; "
        "it needs a larger batch or larger images"
    )
    assert error.value.__notes__ == []  # JAX would add one, about its own frames


@pytest.mark.parametrize("name", ["train", "network", "sow"])
def test_a_layer_that_would_hide_a_method_of_flaxs_is_refused(name: str) -> None:
    """Reading a spec refuses those that are known; this is for what a later Flax may add."""
    network = loads("{name: h, input: [3, 8, 8], stem: {a: relu}}")
    (leaf,) = network.leaves()
    with pytest.raises(BackendError) as error:
        _model(replace(network, parts=(replace(leaf, path=name),)))
    assert str(error.value) == f"ResNet has a {name!r} of its own in Flax, so no layer can be called that"


# -- what is compiled, and when -----------------------------------------------------------------------------------


def test_building_compiles_nothing() -> None:
    weights = comparison_weights(load("resnet18", classes=11))
    with _compilations() as found:
        build("resnet18", backend="flax", classes=11, weights=weights)
    assert found == []


def test_a_kernel_is_let_go_as_soon_as_the_model_has_its_own() -> None:
    network = load("resnet18")
    weights = comparison_weights(network, 0)
    kernels = [weakref.ref(array) for array in weights.values() if array.ndim == 4]
    model = FLAX.build(network, weights, "float64")
    jax.block_until_ready(nnx.state(model))
    assert not weights
    assert [kernel() for kernel in kernels] == [None] * len(kernels)


def test_running_a_model_gives_its_outputs_alone_and_no_weights_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet18", backend="flax")
    watched = Mock(side_effect=RUN._run)
    with monkeypatch.context() as patch:
        patch.setattr(RUN, "_run", watched)
        run(model, np.zeros((1, 3, 33, 33), np.float32))
    sizes = RUN._run.lower(*watched.call_args.args).compile().memory_analysis()
    assert sizes.argument_size_in_bytes > 4 * model.network.parameters
    assert sizes.output_size_in_bytes == 4 * 1000


def test_models_of_one_network_share_what_is_compiled() -> None:
    def use(text: str) -> None:
        network = loads(text)
        model, images = _model(network), _images(network)
        FLAX.run(model, images, ["bn"])
        FLAX.run(model, images, ["bn"], train=True)
        FLAX.step(model, images, LABELS, OPTIMIZER)

    with _compilations() as found:
        use(CALM.replace("out: 6", "out: 7"))
        assert found
        found.clear()
        use(CALM.replace("out: 6", "out: 7"))
    assert found == []


def test_a_network_of_very_many_parts_is_not_compiled_whole_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = loads(CALM.replace("out: 6", "out: 9"))
    paths = [part.path for part in network.nodes()]

    def use() -> tuple[dict[str, Array], TrainingStep, dict[str, Array], dict[str, Array]]:
        model, images = _model(network), _images(network)
        seen, pulled = FLAX.run(model, images, paths, train=True), FLAX.vjp(model, "", images, np.ones((4, 5)))
        return seen, FLAX.step(model, images, LABELS, OPTIMIZER, capture=paths), pulled, dump(model)

    monkeypatch.setattr(RUN, "COMPILED", 2)
    use()  # compiles every operation
    with _compilations() as operations:
        seen, step, pulled, weights = use()
    monkeypatch.undo()
    with _compilations() as whole:
        wanted = use()
    assert not operations
    assert whole
    _same(seen, wanted[0], 1e-12)
    _same(dict(step.gradients), dict(wanted[1].gradients), 1e-12)
    _same(dict(step.output_gradients), dict(wanted[1].output_gradients), 1e-12)
    _same(pulled, wanted[2], 1e-12)
    _same(weights, wanted[3], 1e-12)


# -- what its users expect ----------------------------------------------------------------------------------------


def test_layers_are_flaxs_own() -> None:
    model = _model(loads(EVERY))
    block = model.body.stages[0]
    layers = [model.conv, model.rows, model.fc1, block.norm.deep, block.norm2, block.drop]
    kinds = [nnx.Conv, nnx.LayerNorm, nnx.Linear, nnx.BatchNorm, nnx.GroupNorm, nnx.Dropout]
    assert [isinstance(layer, kind) for layer, kind in zip(layers, kinds, strict=True)] == [True] * 6


def test_paths_in_the_state_are_the_canonical_names_but_for_the_last() -> None:
    network = loads(EVERY)
    flax_names = {"weight": ("kernel", "scale"), "bias": ("bias",), "running_mean": ("mean",), "running_var": ("var",)}
    found = {
        ".".join(map(str, path))
        for path, _ in nnx.to_flat_state(nnx.state(_model(network), (nnx.Param, nnx.BatchStat)))
    }
    assert len(found) == len(network.weights())
    for name in network.weights():
        path, _, last = name.rpartition(".")
        assert found & {f"{path}.{other}" for other in flax_names.get(last, (last,))}, name


def test_statistics_are_not_parameters() -> None:
    network = loads(EVERY)
    model = _model(network)
    count = {kind: sum(x.size for x in jax.tree.leaves(nnx.state(model, kind))) for kind in (nnx.Param, nnx.BatchStat)}
    assert count == {nnx.Param: network.parameters, nnx.BatchStat: network.statistics}


def test_blocks_are_in_order_for_nnx_too() -> None:
    network = loads("{name: n, input: [3, 8, 8], stages: {a: {block: basic, depth: 12, out: 3}}}")
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(nnx.state(_model(network)))[0]]
    blocks = [path[1].key for path in paths if path[0].key == "a"]
    assert blocks == sorted(blocks)
    assert set(blocks) == set(range(12))


def test_it_prints_as_a_native_model_without_the_spec_in_it() -> None:
    text = str(
        _model(loads("{name: p, input: [3, 8, 8], stem: {a: [relu, {op: max_pool, kernel: 2}], s: batch_norm}}"))
    )
    *lines, _ = text.partition("  s=BatchNorm2d(")[0].splitlines(), text
    assert lines == [
        [
            "ResNet( # Param: 6 (48 B), BatchStat: 6 (48 B), Total: 12 (96 B)",
            "  a=Numbered(",
            "    0=Function(name='relu'),",
            "    1=MaxPool2d(kernel=2, stride=1, padding=0, ceil=False)",
            "  ),",
        ]
    ]


@pytest.mark.parametrize("twin", [nnx.clone, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_a_model_of_its_own(twin: Any) -> None:
    network = loads(CALM)
    model = _model(network)
    other = twin(model)
    assert np.array_equal(FLAX.run(other, _images(network))[""], FLAX.run(model, _images(network))[""])
    FLAX.step(other, _images(network), LABELS, OPTIMIZER)
    assert not np.array_equal(dump(other)["fc.bias"], dump(model)["fc.bias"])
    assert all(np.array_equal(dump(model)[name], array) for name, array in comparison_weights(network).items())


def test_it_can_be_split_and_merged_in_a_function_of_jaxs_own() -> None:
    network = loads(CALM)
    model, x = _model(network), _images(network)
    graph, state = nnx.split(model)
    found = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, _native(x))
    assert _apart(np.asarray(found), FLAX.run(model, x)[""]) < 1e-14


def test_it_can_be_called_as_it_is_and_compiled() -> None:
    network = loads(CALM)
    model, x = _model(network), _images(network)
    wanted = FLAX.run(model, x)[""]
    assert _apart(np.asarray(model(_native(x))), wanted) < 1e-14
    assert _apart(np.asarray(nnx.jit(model)(_native(x))), wanted) < 1e-14


def test_a_training_loop_of_flaxs_own_moves_weights_and_statistics() -> None:
    network = loads(CALM)
    model, other, x = _model(network), _model(network), _native(_images(network))
    optimizer = nnx.Optimizer(model, optax.sgd(OPTIMIZER.rate), wrt=nnx.Param)

    def loss_of(model: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), jnp.asarray(LABELS)).mean()

    @nnx.jit
    def step(model: Any, optimizer: nnx.Optimizer[Any]) -> None:
        optimizer.update(model, nnx.grad(loss_of)(model))

    model.train()
    step(model, optimizer)
    FLAX.step(other, _images(network), LABELS, SGD(OPTIMIZER.rate))
    _same(dump(model), dump(other), 1e-14)


def test_train_and_eval_switch_norms_and_dropout() -> None:
    network = loads(SMALL)
    model, x = _model(network), _images(network)
    wanted = {mode: FLAX.run(_model(network), x, ["drop"], train=mode == "train")["drop"] for mode in ("train", "eval")}
    for mode in ("train", "eval"):
        getattr(model, mode)()
        seen: dict[str, jax.Array] = {}

        def keep(path: str, y: jax.Array, seen: dict[str, jax.Array] = seen) -> jax.Array:
            seen[path] = y
            return y

        model(_native(x), keep)
        assert _apart(np.asarray(seen["drop"]).transpose(0, 3, 1, 2), wanted[mode]) < 1e-14
        load_weights(model, comparison_weights(network))


def test_a_part_that_a_user_replaces_takes_effect() -> None:
    network = loads(CALM)
    model, x = _model(network), _images(network)
    model.fc = nnx.Linear(6, 2, param_dtype="float64", rngs=nnx.Rngs(0))
    model.a[0] = nnx.Conv(4, 6, (1, 1), param_dtype="float64", rngs=nnx.Rngs(0))
    model.act = nnx.tanh
    seen = FLAX.run(model, x, ["bn", "act", "a.0", "flat"])
    assert _apart(seen["act"], np.tanh(seen["bn"])) < 1e-14
    assert _apart(seen["a.0"], np.einsum("bihw,io->bohw", seen["act"], np.asarray(model.a[0].kernel[0, 0]))) < 1e-14
    assert _apart(seen[""], seen["flat"] @ np.asarray(model.fc.kernel[...])) < 1e-14


def test_setting_weights_keeps_a_models_type() -> None:
    network = loads(SMALL)
    model = _model(network, "float32")
    load_weights(model, comparison_weights(network))
    assert all(
        np.array_equal(dump(model)[name], array.astype("float32"))
        for name, array in comparison_weights(network).items()
    )


def test_tracing_a_training_step_asks_no_traced_value_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnx.Variable does as it is set, and JAX then walks through all that was traced: quadratic in a network's depth."""

    def asked(tracer: Any) -> None:
        raise AssertionError("a traced value was asked for its sharding")

    model = build("cifar/resnet20", backend="flax")
    model.train()
    monkeypatch.setattr(Tracer, "sharding", property(asked))
    before = np.asarray(model.bn1.mean[...])
    nnx.jit(lambda model, x: model(x))(model, jnp.ones((2, 32, 32, 3)))
    assert not np.array_equal(before, model.bn1.mean[...])
