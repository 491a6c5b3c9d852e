"""What is specific to Paddle: models look as its users expect, and work with its own tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from resnet_spec import Network, build, dump, load, loads, run
from resnet_spec.backend import SGD, BackendError, load_backend
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import assert_close, relative_difference
from shared.every_operation import EVERY_OPERATION
from shared.frameworks import REQUIRED
from shared.paths import DATA

try:
    PADDLE = load_backend("paddle")
except BackendError as error:
    if "paddle" in REQUIRED:
        raise
    pytest.skip(str(error), allow_module_level=True)

import paddle
from paddle.static import InputSpec

from resnet_spec_paddle.sync import synchronize_norms

SMALL = """
name: small
input: [3, 9, 8]
stem: {conv: {op: conv, out: 4, kernel: 3}, bn: norm, act: hard_sigmoid}
stages: {a: {block: basic, depth: 1, out: 6, stride: 2}}
head:
  gate: {block: squeeze_excite, reduced: 2}
  pool: {op: avg_pool, kernel: 3}
  flat: global_max_pool
  fc: {op: linear, out: 5}
"""
COMPILE_OPTIONS: dict[str, dict[str, Any]] = {
    "by bytecode": {"full_graph": False},
    "by syntax tree": {"full_graph": True},
    "of any size": {"full_graph": True, "input_spec": [InputSpec([None, 3, None, None], "float64")]},
}
SGD_SETTINGS = SGD(rate=0.0625, momentum=0.875, weight_decay=2**-7)
LABELS = np.array([1, 3, 0, 4])


def draw_images(network: Network, batch: int = 4) -> Array:
    return np.random.default_rng(2).standard_normal((batch, *network.input))


def make_model(network: Network, dtype: str = "float64") -> Any:
    return build(network, backend="paddle", weights=comparison_weights(network), dtype=dtype)


# -- models are Paddle's -------------------------------------------------------------------------------------------


def test_a_model_prints_like_one_of_paddle() -> None:
    assert repr(make_model(loads(SMALL), "float32")) == (
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
  (pool): AvgPool2D(AvgPool(kernel=3, stride=1, padding=0, ceil=False, count_padding=False))
  (flat): GlobalMaxPool2D(output_size=1, return_mask=False)
  (fc): Linear(in_features=6, out_features=5, dtype=float32)
)"""
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_names_and_shapes_are_those_of_paddle_vision(name: str) -> None:
    with paddle.LazyGuard():
        expected = getattr(paddle.vision.models, name)().state_dict()
    actual = build(name, backend="paddle").state_dict()
    assert [(key, tuple(value.shape)) for key, value in actual.items()] == [
        (key, tuple(value.shape)) for key, value in expected.items()
    ]


def test_a_model_of_paddle_vision_takes_the_weights_and_computes_the_same_logits() -> None:
    network = load("resnet18", classes=7, input=(3, 72, 56))
    model, peer = make_model(network, "float32"), paddle.vision.models.resnet18(num_classes=7)
    assert peer.set_state_dict(model.state_dict()) == ([], [])
    peer.eval()
    x = draw_images(network).astype(np.float32)
    assert relative_difference(run(model, x), peer(paddle.to_tensor(x)).numpy()) < 1e-5


def test_a_checkpoint_of_paddle_restores_the_weights(tmp_path: Path) -> None:
    network = loads(SMALL)
    model, other = make_model(network), build(network, backend="paddle", seed=1, dtype="float64")
    paddle.save(model.state_dict(), str(tmp_path / "model.pdparams"))
    assert other.set_state_dict(paddle.load(str(tmp_path / "model.pdparams"))) == ([], [])
    assert all(dump(other)[name].tobytes() == array.tobytes() for name, array in dump(model).items())


def test_an_optimizer_of_paddle_updates_parameters_and_no_statistics() -> None:
    network = loads(SMALL)
    model = make_model(network)
    optimizer = paddle.optimizer.Momentum(0.5, parameters=model.parameters(), weight_decay=0.5)
    model(paddle.to_tensor(draw_images(network))).sum().backward()
    optimizer.step()
    before, after = comparison_weights(network), dump(model)
    updated = {name for name, array in before.items() if not np.array_equal(after[name], array)}
    assert updated == {name for name, weight in network.owners() if not weight.statistic}


def test_a_norm_can_be_called_twice_before_the_backward_pass() -> None:
    model = make_model(loads("{name: n, input: [6, 7, 5], stem: {n: batch_norm}}"))
    model.train()
    (model(paddle.ones([2, 6, 7, 5], "float64")) + model(paddle.rand([2, 6, 7, 5], "float64"))).sum().backward()
    assert model.n.bias.grad.numpy() == pytest.approx(np.full(6, 2 * 2 * 7 * 5))


# Paddle's program of a training step asks a tensor of the graph for its place, and warns about it.
@pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning:paddle.pir.math_op_patch")
@pytest.mark.parametrize(
    ("how", "text"),
    [
        *(pytest.param(how, SMALL, id=f"small, {how}") for how in COMPILE_OPTIONS),
        # Not by bytecode: where Paddle breaks its graph, it trains with programs that it compiled for evaluation, which
        # have no gradients, as docs/reference/framework-differences.md says.
        pytest.param("by syntax tree", EVERY_OPERATION, id="every_operation, by syntax tree", marks=pytest.mark.sweep),
        pytest.param("of any size", EVERY_OPERATION, id="every_operation, of any size", marks=pytest.mark.sweep),
    ],
)
def test_a_compiled_model_trains_and_evaluates_like_the_eager_one(how: str, text: str) -> None:
    network, options = loads(text), COMPILE_OPTIONS[how]
    compiled, eager = paddle.jit.to_static(make_model(network), **options), make_model(network)
    x, labels = paddle.to_tensor(draw_images(network)), paddle.to_tensor(LABELS)
    assert relative_difference(compiled(x).numpy(), eager(x).numpy()) < 1e-14
    for model in (compiled, eager):
        model.train()
        optimizer = paddle.optimizer.Momentum(SGD_SETTINGS.rate, SGD_SETTINGS.momentum, model.parameters())
        for _ in range(2):
            paddle.nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
            optimizer.clear_grad()
    assert_close(dump(compiled), dump(eager), 1e-12)


def test_an_exported_model_runs_at_any_size(tmp_path: Path) -> None:
    model = make_model(loads(SMALL))
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=[InputSpec([None, 3, None, None], "float64")])
    exported = paddle.jit.load(str(tmp_path / "model"))
    for shape in ((4, 3, 9, 8), (1, 3, 12, 17)):
        x = np.random.default_rng(0).standard_normal(shape)
        assert relative_difference(exported(paddle.to_tensor(x)).numpy(), run(model, x)) < 1e-14


def test_a_layer_can_be_replaced() -> None:
    model = make_model(loads(SMALL), "float32")
    model.fc = paddle.nn.Linear(6, 2)
    model.a[0].bn2 = paddle.nn.Identity()
    assert run(model, draw_images(loads(SMALL))).shape == (4, 2)


# -- what stays unchanged ------------------------------------------------------------------------------------------


def test_building_draws_no_random_numbers() -> None:
    paddle.seed(5)
    expected = paddle.rand([4]).numpy()
    paddle.seed(5)
    make_model(loads(EVERY_OPERATION))
    assert np.array_equal(paddle.rand([4]).numpy(), expected)


@pytest.mark.parametrize("weights", [comparison_weights(loads(SMALL)), {}], ids=["built", "failed"])
def test_building_leaves_paddles_globals_unchanged(weights: dict[str, Array]) -> None:
    before = paddle.get_default_dtype(), paddle.device.get_device(), paddle.in_dynamic_mode()
    try:
        PADDLE.build(loads(SMALL), weights, "float64")
    except KeyError:
        assert not weights
    assert (paddle.get_default_dtype(), paddle.device.get_device(), paddle.in_dynamic_mode()) == before
    assert paddle.nn.Linear(1, 1).weight._is_initialized()


def test_threads_build_models_each_of_its_own_dtype() -> None:
    def build_and_run(index: int) -> set[str]:
        barrier.wait()
        model = make_model(network, "float64" if index % 2 else "float32")
        run(model, draw_images(network))
        return {str(weight.dtype) for weight in model.parameters()}

    network, barrier = loads(SMALL), Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(build_and_run, range(6))) == [{"paddle.float32"}, {"paddle.float64"}] * 3


@pytest.mark.parametrize("train", [False, True])
def test_a_run_does_not_change_the_model_while_it_runs(train: bool) -> None:
    network = loads(SMALL)
    model = make_model(network)
    model.train()
    model.bn.eval()
    modes, weights = {layer: layer.training for layer in model.sublayers(include_self=True)}, dump(model)
    seen = []

    def observe(layer: Any, inputs: object, output: object) -> None:
        seen.append(layer.training)
        assert {layer: layer.training for layer in modes} == modes
        assert all(np.array_equal(dump(model)[name], array) for name, array in weights.items())

    model.fc.register_forward_post_hook(observe)
    PADDLE.run(model, draw_images(network), ["a"], train=train)
    assert seen == [train]
    assert all(np.array_equal(dump(model)[name], array) for name, array in weights.items())


def test_a_compiled_model_runs_in_the_other_mode() -> None:
    network = loads(SMALL)
    model = make_model(network)
    expected = run(model, draw_images(network))
    model.train()
    assert np.array_equal(run(paddle.jit.to_static(model), draw_images(network)), expected)


def test_computing_gradients_leaves_none_in_the_parameters() -> None:
    network = loads(SMALL)
    model = make_model(network)
    PADDLE.vjp(model, "", draw_images(network), np.ones((4, 5)))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_capturing_outputs_restores_the_mode_of_each_layer_and_leaves_no_hooks() -> None:
    network = loads(SMALL)
    model = make_model(network)
    model.train()
    model.bn.eval()
    PADDLE.run(model, draw_images(network), [part.path for part in network.nodes()])
    assert [name for name, layer in model.named_sublayers() if not layer.training] == ["bn"]
    assert not any(layer._forward_post_hooks for layer in model.sublayers(include_self=True))


# -- paddle.summary ------------------------------------------------------------------------------------------------


def test_the_summary_counts_what_the_core_counts(capsys: pytest.CaptureFixture[str]) -> None:
    network = load("resnet18", classes=7, input=(3, 72, 56))
    counts = paddle.summary(make_model(network, "float32"), (1, *network.input))
    assert counts["trainable_params"] == network.parameters
    assert counts["total_params"] == network.parameters + network.statistics
    assert "GlobalAvgPool2D" in capsys.readouterr().out


def parse_summary(printed: str) -> list[tuple[str, list[int], list[int], int]]:
    """Return the rows of a printed summary: layer, input shape, output shape, number of elements."""
    pattern = re.compile(r"\s*(\w+)-\d+\s+\[\[([\d, ]+)\]\]\s+\[([\d, ]+)\]\s+([\d,]+)\s*")
    rows = [match for match in map(pattern.fullmatch, printed.splitlines()) if match]
    return [
        (row[1], json.loads(f"[{row[2]}]"), json.loads(f"[{row[3]}]"), int(row[4].replace(",", ""))) for row in rows
    ]


def test_the_summary_lists_the_layers_of_a_model_of_paddles_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows are the same, in the same order, except for layers without weights that only one of the two models has.

    Paddle's has an Identity for a shortcut that is the identity, and AdaptiveAvgPool2D for the last pooling, where ours
    has GlobalAvgPool2D, which returns (batch, channels). Ours has a ReLU after each sum, where Paddle's uses the first
    ReLU of the block again, and calls a block Residual.
    """
    recorded = json.loads((DATA / "paddle_resnet18_summary.json").read_text(encoding="utf-8"))
    model = make_model(load("resnet18_biased_shortcut"), "float32")
    totals = paddle.summary(model, (2, 3, 32, 32))
    rows = parse_summary(capsys.readouterr().out)
    after_sums = [index - 1 for index, row in enumerate(rows) if row[0] == "Residual"]
    assert {rows[index][0] for index in after_sums} == {"ReLU"}
    ours = [
        row
        for index, row in enumerate(rows)
        if index not in after_sums and row[0] not in {"Residual", "GlobalAvgPool2D"}
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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 4e-3), ("float32", 1e-4), ("float64", 1e-12)])
@pytest.mark.parametrize("variance", ["unbiased", "biased"])
def test_synchronised_norms_compute_in_every_type(
    monkeypatch: pytest.MonkeyPatch, variance: str, dtype: str, tolerance: float
) -> None:
    model = build(
        loads(f"{{name: s, input: [2, 300, 300], stem: {{bn: {{op: batch_norm, variance: {variance}}}}}}}"),
        backend="paddle",
    )
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)  # the other process has the same images
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda tensor: paddle.assign(tensor * 2, tensor))
    norm = synchronize_norms(model).bn.to(dtype=dtype)
    norm.train()
    images = np.random.default_rng(1).standard_normal((1, 2, 300, 300)).astype(dtype)
    y = norm(paddle.to_tensor(images)).numpy()
    both = np.concatenate([images, images]).astype(np.float64)  # 180,000 values per channel: too many for float16
    mean, var = both.mean((0, 2, 3), keepdims=True), both.var((0, 2, 3), keepdims=True)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, ((both - mean) / np.sqrt(var + norm._epsilon))[:1], tolerance, tolerance)
    new = both.var((0, 2, 3), ddof=1 if variance == "unbiased" else 0)
    np.testing.assert_allclose(norm._variance.numpy(), 0.9 + 0.1 * new, tolerance + 1e-7)


def test_importing_the_backend_prints_no_warning_about_ccache() -> None:
    """Paddle warns where no compiler's cache is installed, as on most machines; the warning is of no use here."""
    command = [sys.executable, "-W", "default", "-c", "import resnet_spec_paddle"]
    environment = {**os.environ, "PATH": "/nowhere"}  # where ccache is not found
    assert "ccache" not in subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stderr
