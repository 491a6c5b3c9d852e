"""What is particular to Paddle: where its own layers mean something else, and that models are what its users expect."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from resnet_spec import Network, build, dump, load, loads, run
from resnet_spec.backend import SGD, BackendError, TrainingStep, load_backend
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, AvgPool, MaxPool
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import REQUIRED, required
from shared.paths import DATA

try:
    PADDLE = load_backend("paddle")
except BackendError as error:
    if "paddle" in REQUIRED:
        raise
    pytest.skip(str(error), allow_module_level=True)

import paddle
from paddle.static import InputSpec

from resnet_spec_paddle.layers import layer

# Every operation, on sizes that are odd in one axis or both; what Paddle does otherwise is met with the arguments that show it.
EVERY = """
name: every
input: [3, 25, 19]
blocks:
  preactivated:
    takes: {out: required}
    before: {norm.deep: {op: batch_norm, variance: biased, decay: 0.3}, relu: relu6}
    branch:
      - {op: conv, out: out, kernel: 1}
      - {op: group_norm, groups: 3, epsilon: 1e-3}
      - hard_swish
    shortcut:
      downsample: {op: conv, out: out, kernel: 1, bias: true}
    after:
      leaky: {op: leaky_relu, slope: 0.2}
  gated:                                # by one number a channel, against an image
    combine: multiply
    branch:
      squeeze: global_max_pool
      fc: {op: linear, out: in, bias: false}
      gate: hard_sigmoid
  mixed:                                # by what neighbouring channels and the softmax of its parts make of it
    combine: multiply
    branch:
      squeeze: global_avg_pool
      conv: {op: channel_conv, kernel: 3}
      weigh: {op: split_softmax, parts: 3, groups: 2}
stem:
  pad: {op: zero_pad, top: 1, bottom: 2, left: 3}
  conv: {op: conv, out: 8, kernel: 5, stride: 2, padding: 1, bias: true}
  plain: {op: batch_norm, affine: false, epsilon: 1e-3, decay: 0.75}
  elu: elu
  dilated: {op: conv, out: 12, kernel: 3, padding: 2, dilation: 2, groups: 4}
  gelu: gelu
  maxpool: {op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}
  depthwise: {op: conv, out: 12, kernel: 3, padding: 1, groups: 12}
  tanh: tanh
  avgpool: {op: avg_pool, kernel: 3, stride: 1, padding: 1}
  layer: {op: layer_norm, epsilon: 1e-3}
  tanh_gelu: {op: gelu, approximate: true}
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
  stage: {block: preactivated, depth: 2, out: 9, as: "blocks.{index}"}
head:
  gate: gated
  counted: {op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true, count_padding: true}
  relu: relu
  squares: {op: drop_block, rate: 0.0}
  dropped: {op: avg_pool, kernel: 2, stride: 3, padding: 1, ceil: true}
  silu: silu
  same: identity
  pixel: {op: global_avg_pool, keepdims: true}
  flat: flatten
  fc1: {op: linear, out: 7}
  rows: layer_norm
  sigmoid: sigmoid
  drop: {op: dropout, rate: 0.0}
  path: {op: drop_path, rate: 0.0}
  fc2: {op: linear, out: 5}
"""
SMALL = """
name: small
input: [3, 9, 8]
stem: {conv: {op: conv, out: 4, kernel: 3}, bn: norm, act: hard_sigmoid}
stages: {a: {block: basic, depth: 1, out: 6, stride: 2}}
head: {gate: {block: squeeze_excite, reduced: 2}, pool: {op: avg_pool, kernel: 3}, flat: global_max_pool, fc: {op: linear, out: 5}}
"""
NORM = "{name: n, input: [6, 7, 5], stem: {n: %s}}"
OPTIMIZER = SGD(rate=0.0625, momentum=0.875, weight_decay=2**-7)  # float32 holds each exactly, and Paddle has no more
LABELS = np.array([1, 3, 0, 4])


def _network(name: str) -> Network:
    return loads(EVERY) if name == "every" else load("resnet18", classes=7, input=(3, 72, 56))


def _images(network: Network, batch: int = 4) -> Array:
    return np.random.default_rng(2).standard_normal((batch, *network.input))


def _model(network: Network, dtype: str = "float64") -> Any:
    return build(network, backend="paddle", weights=comparison_weights(network), dtype=dtype)


def _apart(found: Array, wanted: Array, scale: float | None = None) -> float:
    """The largest difference, relative to the largest magnitude, or to that of all that it belongs to."""
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert np.isfinite(found).all()
    return float(np.abs(found - wanted).max() / (scale or np.abs(wanted).max()))


def _gradient(tensor: Any) -> Array:
    return tensor.grad.numpy()


def _same(found: dict[str, Array], wanted: dict[str, Array], gate: float, scale: float | None = None) -> None:
    assert found
    assert set(found) == set(wanted)
    off = {name: _apart(found[name], wanted[name], scale) for name in wanted}
    assert {name: error for name, error in off.items() if error > gate} == {}


class Trained(NamedTuple):
    """The first of five steps, and the weights after the first and after the last."""

    first: TrainingStep
    after_one: dict[str, Array]
    after_five: dict[str, Array]


@cache
def _trained(name: str, backend: str) -> Trained:
    network = _network(name)
    module, model = (
        load_backend(backend),
        build(network, backend=backend, weights=comparison_weights(network), dtype="float64"),
    )
    paths = [part.path for part in network.nodes()]
    first = module.step(model, _images(network), LABELS, OPTIMIZER, capture=paths)
    after_one, step = module.dump(model), first
    for _ in range(4):
        step = module.step(model, _images(network), LABELS, OPTIMIZER, step.optimizer)
    return Trained(first, after_one, module.dump(model))


@pytest.fixture
def torch() -> None:
    required("torch")


# -- what it computes ---------------------------------------------------------------------------------------------


def test_every_operation_is_compared() -> None:
    assert {type(leaf.op) for leaf in loads(EVERY).leaves()} == set(OPS.values())


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("network", [loads(EVERY), _network("resnet18")], ids=["every", "resnet18"])
def test_every_node_is_the_references(network: Network, train: bool) -> None:
    paths = [part.path for part in network.nodes()]
    reference = build(network, backend="numpy", weights=comparison_weights(network))
    wanted = load_backend("numpy").run(reference, _images(network), paths, train=train)
    _same(PADDLE.run(_model(network), _images(network), paths, train=train), wanted, 1e-12)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_gradients_of_every_parameter_are_torchs(torch: None, name: str) -> None:
    wanted = dict(_trained(name, "torch").first.gradients)
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    _same(dict(_trained(name, "paddle").first.gradients), wanted, 1e-12, largest)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_gradients_of_every_node_are_torchs(torch: None, name: str) -> None:
    wanted = dict(_trained(name, "torch").first.output_gradients)
    assert len(wanted) == len(list(_network(name).nodes())) + 2  # the input and the output
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    _same(dict(_trained(name, "paddle").first.output_gradients), wanted, 1e-12, largest)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_running_statistics_after_a_step_are_torchs(torch: None, name: str) -> None:
    found, wanted = (
        {path: array for path, array in _trained(name, backend).after_one.items() if ".running_" in path}
        for backend in ("paddle", "torch")
    )
    _same(found, wanted, 1e-12)


@pytest.mark.parametrize("name", ["every", "resnet18"])
def test_weights_after_five_steps_are_torchs(torch: None, name: str) -> None:
    _same(_trained(name, "paddle").after_five, _trained(name, "torch").after_five, 1e-10)


def test_momentum_and_decay_move_every_parameter_as_is_promised() -> None:
    network = loads(SMALL)
    model, optimizer = _model(network), None
    weights = dump(model)
    velocity = {name: np.zeros(1) for name, weight in network.owners() if not weight.statistic}
    for _ in range(3):
        step = PADDLE.step(model, _images(network), LABELS, OPTIMIZER, optimizer)
        optimizer = step.optimizer
        for name, gradient in step.gradients.items():
            velocity[name] = OPTIMIZER.momentum * velocity[name] + (gradient + OPTIMIZER.weight_decay * weights[name])
            weights[name] -= OPTIMIZER.rate * velocity[name]
    _same({name: dump(model)[name] for name in velocity}, {name: weights[name] for name in velocity}, 1e-14)


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
@pytest.mark.parametrize("decay", [0.0, 0.1, 0.5, 0.9])
def test_the_running_variance_is_the_one_asked_for(variance: str, decay: float) -> None:
    network = loads(NORM % f"{{op: batch_norm, variance: {variance}, decay: {decay}}}")
    model, x = _model(network), _images(network, batch=1)  # 35 values a channel
    PADDLE.step(model, x, np.array([0]), SGD())
    new = x.var(axis=(0, 2, 3), ddof=1 if variance == "unbiased" else 0)
    old, kept = comparison_weights(network)["n.running_var"], float(np.float32(decay))
    assert _apart(dump(model)["n.running_var"], kept * old + (1 - kept) * new) < 1e-14


def test_a_norm_used_twice_before_its_gradient_is_taken() -> None:
    network = loads(NORM % "batch_norm")
    model = _model(network)
    model.train()
    (model(paddle.ones([2, 6, 7, 5], "float64")) + model(paddle.rand([2, 6, 7, 5], "float64"))).sum().backward()
    assert model.n.bias.grad.numpy() == pytest.approx(np.full(6, 2 * 2 * 7 * 5))


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "{op: group_norm, groups: 2}"])
def test_norms_keep_their_accuracy_far_from_zero(norm: str) -> None:
    network = loads(NORM % norm)
    x = _images(network) + 100
    wanted = load_backend("numpy").run(
        build(network, backend="numpy", weights=comparison_weights(network)), x, train=True
    )
    _same(PADDLE.run(_model(network), x, train=True), wanted, 1e-12)


def _pooling(op: MaxPool | AvgPool, size: int) -> Leaf:
    given = (2, size, size + 3)
    return Leaf("pool", op, given, op.output_shape(given))


POOLINGS = [
    _pooling(op, size)
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
    for ceil in (False, True)
    for op in (
        MaxPool(kernel, stride, padding, ceil),
        AvgPool(kernel, stride, padding, ceil),
        AvgPool(kernel, stride, padding, ceil, count_padding=True),
    )
]


@pytest.mark.parametrize(("dtype", "gate"), [("float64", 1e-14), ("float32", 1e-6)])
def test_pooling_is_the_references(dtype: str, gate: float) -> None:
    from resnet_spec_numpy.layers import layer as reference

    assert len(POOLINGS) == 144
    for leaf in POOLINGS:
        x = np.random.default_rng(0).standard_normal((2, *leaf.input_shape)).astype(dtype)
        wanted, _ = reference(leaf, {}, x, None)
        assert wanted.shape[1:] == leaf.output_shape
        assert _apart(layer(leaf)(paddle.to_tensor(x)).numpy(), wanted) < gate, leaf


def test_the_gradient_of_pooling_is_torchs(torch: None) -> None:
    import torch as framework

    from resnet_spec_torch.layers import layer as torchs

    for leaf in POOLINGS:
        x = np.random.default_rng(0).standard_normal((2, *leaf.input_shape))
        cotangent = np.random.default_rng(1).standard_normal((2, *leaf.output_shape))
        found = paddle.to_tensor(x, stop_gradient=False)
        (layer(leaf)(found) * paddle.to_tensor(cotangent)).sum().backward()
        wanted = framework.tensor(x, requires_grad=True)
        (torchs(leaf, framework.float64)(wanted) * framework.from_numpy(cotangent)).sum().backward()
        assert _apart(_gradient(found), _gradient(wanted)) < 1e-14, leaf


def test_the_first_of_equal_maxima_has_the_gradient() -> None:
    for op in ("global_max_pool", "{op: max_pool, kernel: 3}"):
        (leaf,) = loads(f"{{name: m, input: [1, 3, 3], stem: {{pool: {op}}}}}").leaves()
        x = paddle.to_tensor([[[[0.0, 2, 1], [2, 2, 0], [0, 0, 2]]]], stop_gradient=False)
        layer(leaf)(x).sum().backward()
        assert _gradient(x).tolist() == [[[[0, 1, 0], [0, 0, 0], [0, 0, 0]]]]


def test_the_slope_of_hard_sigmoid_is_a_sixth() -> None:
    (leaf,) = loads("{name: h, input: [1, 1, 5], stem: {gate: hard_sigmoid}}").leaves()
    x = paddle.to_tensor(np.array([-4.0, -2, 0, 2, 4]), stop_gradient=False)
    y = layer(leaf)(x)
    y.sum().backward()
    assert y.numpy().tolist() == [0, 1 / 6, 3 / 6, 5 / 6, 1]
    assert _gradient(x).tolist() == [0, 1 / 6, 1 / 6, 1 / 6, 0]


def test_dropout_keeps_the_mean_in_training_and_everything_in_evaluation() -> None:
    network = loads("{name: d, input: [3, 32, 32], stem: {drop: {op: dropout, rate: 0.25}}}")
    model, ones = _model(network), np.ones((4, *network.input))
    kept = PADDLE.run(model, ones, train=True)[""]
    assert sorted(set(kept.ravel())) == [0, 1 / 0.75]
    assert 0.2 < np.mean(kept == 0) < 0.3
    assert np.array_equal(PADDLE.run(model, ones)[""], ones)


@pytest.mark.parametrize(("part", "given"), [("", "input"), ("a.0", "act"), ("fc", "flat")])
def test_a_part_alone_has_the_gradients_that_it_has_in_the_network(part: str, given: str) -> None:
    network = loads(SMALL)
    step = PADDLE.step(_model(network), _images(network), LABELS, OPTIMIZER, capture=["act", "a.0", "flat", "fc"])
    x = {"input": _images(network), **step.outputs}[given]
    wanted = {name: gradient for name, gradient in step.gradients.items() if name.startswith(part)}
    found = PADDLE.vjp(_model(network), part, x, step.output_gradients[part])
    _same(found, {"input": step.output_gradients[given], **wanted}, 1e-12)


def test_the_gradients_of_a_part_leave_the_model_as_it_was() -> None:
    network = loads(SMALL)
    model = _model(network)
    PADDLE.vjp(model, "", _images(network), np.ones((4, 5)))
    assert all(np.array_equal(dump(model)[name], array) for name, array in comparison_weights(network).items())
    assert all(parameter.grad is None for parameter in model.parameters())


# -- what its users expect ----------------------------------------------------------------------------------------


def test_it_prints_as_a_native_model() -> None:
    assert repr(_model(loads(SMALL), "float32")) == (
        """\
ResNet(
  (conv): Conv2D(3, 4, kernel_size=[3, 3], data_format=NCHW)
  (bn): BatchNorm2D(num_features=4, momentum=0.8999999761581421, epsilon=9.999999747378752e-06)
  (act): Hardsigmoid()
  (a): Sequential(
    (0): Residual(
      (conv1): Conv2D(4, 6, kernel_size=[3, 3], stride=[2, 2], padding=1, data_format=NCHW)
      (bn1): BatchNorm2D(num_features=6, momentum=0.8999999761581421, epsilon=9.999999747378752e-06)
      (relu1): ReLU()
      (conv2): Conv2D(6, 6, kernel_size=[3, 3], padding=1, data_format=NCHW)
      (bn2): BatchNorm2D(num_features=6, momentum=0.8999999761581421, epsilon=9.999999747378752e-06)
      (downsample): Sequential(
        (0): Conv2D(4, 6, kernel_size=[1, 1], stride=[2, 2], data_format=NCHW)
        (1): BatchNorm2D(num_features=6, momentum=0.8999999761581421, epsilon=9.999999747378752e-06)
      )
      (relu2): ReLU()
    )
  )
  (gate): Residual(combine=multiply
    (squeeze): GlobalAvgPool2D(keepdims=True)
    (fc1): Conv2D(6, 2, kernel_size=[1, 1], data_format=NCHW)
    (relu): ReLU()
    (fc2): Conv2D(2, 6, kernel_size=[1, 1], data_format=NCHW)
    (gate): Sigmoid()
  )
  (pool): AvgPool2D(kernel_size=3, stride=1, padding=0)
  (flat): GlobalMaxPool2D(output_size=1, return_mask=False)
  (fc): Linear(in_features=6, out_features=5, dtype=float32)
)"""
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_names_and_shapes_are_those_of_paddle_vision(name: str) -> None:
    with paddle.LazyGuard():
        wanted = getattr(paddle.vision.models, name)().state_dict()
    found = build(name, backend="paddle").state_dict()
    assert [(key, tuple(value.shape)) for key, value in found.items()] == [
        (key, tuple(value.shape)) for key, value in wanted.items()
    ]


def test_paddle_visions_own_model_takes_the_weights_and_gives_the_same_logits() -> None:
    network = load("resnet18", classes=7, input=(3, 72, 56))
    model, peer = _model(network, "float32"), paddle.vision.models.resnet18(num_classes=7)
    assert peer.set_state_dict(model.state_dict()) == ([], [])
    peer.eval()
    x = _images(network).astype(np.float32)
    assert _apart(run(model, x), peer(paddle.to_tensor(x)).numpy()) < 1e-5


def test_a_checkpoint_of_paddles_own_brings_the_weights_back(tmp_path: Path) -> None:
    network = loads(SMALL)
    model, other = _model(network), build(network, backend="paddle", seed=1, dtype="float64")
    paddle.save(model.state_dict(), str(tmp_path / "model.pdparams"))
    assert other.set_state_dict(paddle.load(str(tmp_path / "model.pdparams"))) == ([], [])
    assert all(dump(other)[name].tobytes() == array.tobytes() for name, array in dump(model).items())


def test_a_copy_is_a_model_of_its_own() -> None:
    network = loads(SMALL)
    model = _model(network)
    other = copy.deepcopy(model)
    PADDLE.step(other, _images(network), LABELS, OPTIMIZER)
    assert all(np.array_equal(dump(model)[name], array) for name, array in comparison_weights(network).items())


def test_an_optimiser_moves_what_is_learnt_and_nothing_else() -> None:
    network = loads(SMALL)
    model = _model(network)
    optimizer = paddle.optimizer.Momentum(0.5, parameters=model.parameters(), weight_decay=0.5)
    model(paddle.to_tensor(_images(network))).sum().backward()
    optimizer.step()
    moved = {
        name for name, array in comparison_weights(network).items() if not np.array_equal(dump(model)[name], array)
    }
    assert moved == {name for name, weight in network.owners() if not weight.statistic}


def test_the_summary_counts_what_the_core_counts(capsys: pytest.CaptureFixture[str]) -> None:
    network = load("resnet18", classes=7, input=(3, 72, 56))
    counted = paddle.summary(_model(network, "float32"), (1, *network.input))
    assert counted["trainable_params"] == network.parameters
    assert counted["total_params"] == network.parameters + network.statistics
    assert "GlobalAvgPool2D" in capsys.readouterr().out


# Paddle's own program of a training step asks a tensor of the graph for its place.
@pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning:paddle.pir.math_op_patch")
@pytest.mark.parametrize(
    "options",
    [
        {"full_graph": False},
        {"full_graph": True},
        {"full_graph": True, "input_spec": [InputSpec([None, 3, None, None], "float64")]},
    ],
    ids=["by bytecode", "by syntax tree", "of any size"],
)
@pytest.mark.parametrize("text", [EVERY, SMALL], ids=["every", "small"])
def test_a_compiled_model_trains_and_evaluates_as_the_eager_one(text: str, options: dict[str, Any]) -> None:
    network = loads(text)
    compiled, eager = paddle.jit.to_static(_model(network), **options), _model(network)
    x, labels = paddle.to_tensor(_images(network)), paddle.to_tensor(LABELS)
    assert _apart(compiled(x).numpy(), eager(x).numpy()) < 1e-14
    for model in (compiled, eager):
        model.train()
        optimizer = paddle.optimizer.Momentum(OPTIMIZER.rate, OPTIMIZER.momentum, model.parameters())
        for _ in range(2):
            paddle.nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
            optimizer.clear_grad()
    _same(dump(compiled), dump(eager), 1e-12)


def test_an_exported_model_runs_at_any_size(tmp_path: Path) -> None:
    network = loads(SMALL)
    model = _model(network)
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=[InputSpec([None, 3, None, None], "float64")])
    exported = paddle.jit.load(str(tmp_path / "model"))
    for shape in ((4, 3, 9, 8), (1, 3, 12, 17)):
        x = np.random.default_rng(0).standard_normal(shape)
        assert _apart(exported(paddle.to_tensor(x)).numpy(), run(model, x)) < 1e-14


def test_a_layer_that_the_user_replaces_takes_effect() -> None:
    model = _model(loads(SMALL), "float32")
    model.fc = paddle.nn.Linear(6, 2)
    model.a[0].bn2 = paddle.nn.Identity()
    assert run(model, _images(loads(SMALL))).shape == (4, 2)


# -- what it leaves alone -----------------------------------------------------------------------------------------


def test_building_draws_no_random_numbers() -> None:
    paddle.seed(5)
    wanted = paddle.rand([4]).numpy()
    paddle.seed(5)
    _model(loads(EVERY))
    assert np.array_equal(paddle.rand([4]).numpy(), wanted)


@pytest.mark.parametrize("weights", [comparison_weights(loads(SMALL)), {}], ids=["built", "failed"])
def test_building_leaves_paddles_globals_as_they_were(weights: dict[str, Array]) -> None:
    before = paddle.get_default_dtype(), paddle.device.get_device(), paddle.in_dynamic_mode()
    try:
        PADDLE.build(loads(SMALL), weights, "float64")
    except KeyError:
        assert not weights
    assert (paddle.get_default_dtype(), paddle.device.get_device(), paddle.in_dynamic_mode()) == before
    assert paddle.nn.Linear(1, 1).weight._is_initialized()


def test_looking_leaves_each_layers_mode_and_no_hooks() -> None:
    network = loads(SMALL)
    model = _model(network)
    model.train()
    model.bn.eval()
    PADDLE.run(model, _images(network), [part.path for part in network.nodes()])
    assert [name for name, module in model.named_sublayers() if not module.training] == ["bn"]
    assert not any(module._forward_post_hooks for module in model.sublayers(include_self=True))


def test_a_training_run_that_fails_moves_no_statistics() -> None:
    network = loads(
        "{name: f, input: [3, 4, 4], stem: {bn: norm, p: {op: global_avg_pool, keepdims: true}, bn2: norm}}"
    )
    model = _model(network)
    with pytest.raises(ValueError) as error:
        PADDLE.run(model, _images(network, batch=1), train=True)
    assert str(error.value) == (
        "bn2 is given one value a channel, (1, 3, 1, 1), which has no variance to train with; "
        "it needs a larger batch or larger images"
    )
    assert all(np.array_equal(dump(model)[name], array) for name, array in comparison_weights(network).items())


def test_a_network_without_weights_runs() -> None:
    network = loads("{name: w, input: [3, 4, 4], stem: {pool: global_avg_pool}}")
    assert np.array_equal(run(_model(network), np.ones((2, 3, 4, 4))), np.ones((2, 3)))


def _rows(printed: str) -> list[tuple[str, list[int], list[int], int]]:
    """The rows of a printed summary: layer, shape in, shape out, elements."""
    pattern = re.compile(r"\s*(\w+)-\d+\s+\[\[([\d, ]+)\]\]\s+\[([\d, ]+)\]\s+([\d,]+)\s*")
    found = [match for match in map(pattern.fullmatch, printed.splitlines()) if match]
    return [
        (row[1], json.loads(f"[{row[2]}]"), json.loads(f"[{row[3]}]"), int(row[4].replace(",", ""))) for row in found
    ]


def test_the_summary_lists_what_paddles_own_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """The same rows in the same order, but for those of layers that one of the two has not, none of which has weights.

    Theirs has an Identity for each shortcut that is x itself, and pools by AdaptiveAvgPool2D, where ours is a GlobalAvgPool2D that leaves
    (batch, channels). Ours has a ReLU of its own after each sum, where theirs uses the block's first again, and calls a block Residual.
    """
    recorded = json.loads((DATA / "paddle_resnet18_summary.json").read_text(encoding="utf-8"))
    model = _model(load("resnet18_biased_shortcut"), "float32")
    totals = paddle.summary(model, (2, 3, 32, 32))
    rows = _rows(capsys.readouterr().out)
    after = [index - 1 for index, row in enumerate(rows) if row[0] == "Residual"]
    assert {rows[index][0] for index in after} == {"ReLU"}
    ours = [
        row for index, row in enumerate(rows) if index not in after and row[0] not in {"Residual", "GlobalAvgPool2D"}
    ]
    theirs = [
        (row["layer"], row["given"], row["gives"], row["elements"])
        for row in recorded["rows"]
        if row["layer"] not in {"Block", "Identity", "AdaptiveAvgPool2D"}
    ]
    assert len(theirs) == 51
    assert ours == theirs
    assert totals["total_params"] == recorded["totals"]["elements"]
    assert totals["trainable_params"] == recorded["totals"]["parameters"]
