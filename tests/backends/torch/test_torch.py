"""What is specific to PyTorch: models look as its users expect, and work with its own tools."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, capture, dump, load, loads, run
from resnet_spec.backend import SGD, BackendError, load_backend
from resnet_spec.weights.canonical import comparison_weights
from shared.frameworks import REQUIRED

if "torch" in REQUIRED:
    load_backend("torch")  # an installation that fails to import is an error then, not a skip
torch: Any = pytest.importorskip("torch")
from resnet_spec_torch.sync import synchronize_norms  # noqa: E402

SMALL = """
name: small
input: [3, 20, 17]
stem: {conv1: {op: conv, out: 8, kernel: 3, stride: 2}, bn1: norm, relu: act}
stages: {layer1: {block: bottleneck, depth: 2, out: 12, width: 4, attention: {block: squeeze_excite, reduced: 4}}}
head: {avgpool: global_avg_pool, fc: {op: linear, out: 5}}
"""


def make_model() -> Any:
    network = loads(SMALL)
    return build(network, backend="torch", weights=comparison_weights(network), dtype="float64")


def draw_images(count: int = 3) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 3, 20, 17)))


def test_the_state_dict_has_the_canonical_names_in_order() -> None:
    names = build("resnet18", backend="torch").state_dict()
    canonical = [name for name in names if not name.endswith("num_batches_tracked")]
    assert canonical == list(load("resnet18").weights())


def test_the_state_dict_has_the_order_of_written_sections() -> None:
    conv = "{op: conv, out: 4, kernel: 1, bias: true}"
    block = f"{{combine: none, after: {{a: {conv}}}, before: {{b: {conv}}}, branch: {{c: relu}}}}"
    network = loads(f"{{name: s, input: [4, 8, 8], blocks: {{x: {block}}}, stem: {{s: {{block: x}}}}}}")
    names = ["s.a.weight", "s.a.bias", "s.b.weight", "s.b.bias"]
    assert list(network.weights()) == list(build(network, backend="torch").state_dict()) == names


def test_a_model_prints_like_one_of_torch() -> None:
    text = repr(build("resnet18", backend="torch"))
    assert text.startswith(
        "ResNet(\n  (conv1): Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)"
    )
    assert "  (layer1): Sequential(\n    (0): Residual(" in text
    assert re.search(r"\(downsample\): Sequential\(\s+\(0\): Conv2d", text)


NUMBERS = """
name: numbers
input: [4, 3, 3]
stem:
  bn: norm
  slow: {op: batch_norm, decay: 0.99, epsilon: 0.001}
  fast: {op: batch_norm, decay: 0}
  groups: {op: group_norm, groups: 2}
  rows: {op: layer_norm, epsilon: 1e-6}
  leaky: {op: leaky_relu, slope: 0.1}
  drop: {op: dropout, rate: 0.2}
"""


def test_numbers_print_as_they_were_written() -> None:
    text = repr(build(loads(NUMBERS), backend="torch"))
    assert re.findall(r"(?:eps|momentum|slope|p)=([\d.e-]+)", text) == [
        *("1e-05", "0.1", "0.001", "0.01", "1e-05", "1.0"),
        *("1e-05", "1e-06", "0.1", "0.2"),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_norm_keeps_the_same_share_as_in_every_framework(dtype: str) -> None:
    decays = [0.9, 0.99, 0.997, 0.1, 1 / 3, 1e-12, 0.99999994]
    layers = ", ".join(f"n{index}: {{op: batch_norm, decay: {decay:.17f}}}" for index, decay in enumerate(decays))
    model = build(loads(f"{{name: s, input: [2, 3, 4], stem: {{{layers}}}}}"), backend="torch", dtype=dtype)
    for index, decay in enumerate(decays):
        momentum = getattr(model, f"n{index}").momentum
        kept = float(np.float32(decay))
        assert abs((1 - momentum) - kept) <= (2**-53 if dtype == "float64" else 2**-25 * kept + 2**-53)


def test_running_statistics_are_not_parameters() -> None:
    network = load("resnet18")
    count = sum(parameter.numel() for parameter in build(network, backend="torch").parameters())
    assert count == network.parameters


def test_a_layer_can_be_replaced() -> None:
    model = make_model()
    model.fc = torch.nn.Linear(12, 2, dtype=torch.float64)
    assert model(draw_images()).shape == (3, 2)


def test_a_state_dict_loads_into_another_model() -> None:
    other = build(loads(SMALL), backend="torch", seed=5, dtype="float64")
    other.load_state_dict(make_model().state_dict(), strict=True)
    assert torch.equal(other(draw_images()), make_model()(draw_images()))


def test_an_exported_model_computes_the_same() -> None:
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(make_model(), (draw_images(),), dynamic_shapes={"images": {0: batch}})
    assert torch.allclose(exported.module()(draw_images(4)), make_model()(draw_images(4)), rtol=1e-12, atol=1e-12)


def test_a_compiled_model_computes_the_same() -> None:
    compiled = torch.compile(make_model(), backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(draw_images()), make_model()(draw_images()), rtol=1e-12, atol=1e-12)
    assert run(compiled, draw_images().numpy()).shape == (3, 5)


@pytest.mark.sweep
def test_a_compiled_model_trains_the_same() -> None:
    losses = []
    for compile in (lambda model: model, lambda model: torch.compile(model, backend="aot_eager")):
        model = compile(make_model().train())  # type: ignore[no-untyped-call]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0625)
        losses_of_steps = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(draw_images()).square().mean()
            loss.backward()
            optimizer.step()
            losses_of_steps.append(loss.item())
        losses.append(losses_of_steps)
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
def test_a_norm_can_be_trained_by_a_loop_of_the_user(variance: str) -> None:
    network = loads(
        f"{{name: s, input: [2, 3, 4], stem: {{bn: {{op: batch_norm, variance: {variance}, decay: 0.5}}}}}}"
    )
    model = build(network, backend="torch", dtype="float64").train()
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 2, 3, 4))).requires_grad_()
    model(x).square().sum().backward()
    expected = x.var(dim=(0, 2, 3), correction=1 if variance == "unbiased" else 0)
    assert torch.allclose(model.bn.running_var, (1 + expected) / 2, rtol=1e-12)


def observe_modes(model: Any) -> list[bool]:
    """Return a list that receives, whenever the norm bn1 runs, whether all modules of the model are in training."""
    seen: list[bool] = []
    model.bn1.register_forward_hook(lambda *_: seen.append(all(module.training for module in model.modules())))
    return seen


def test_a_model_that_runs_keeps_its_mode_for_other_threads() -> None:
    model, images, backend = make_model().train(), draw_images().numpy(), load_backend("torch")
    seen = observe_modes(model)
    run(model, images)
    capture(model, images, ["layer1"])
    backend.vjp(model, "", images, np.ones((3, 5)))
    backend.run(model, images, train=True)
    backend.step(model, images, np.array([0, 1, 2]), SGD())
    assert seen == [True] * 5
    model.fc.eval()  # as a user freezes a layer
    assert np.array_equal(run(model, images), run(build_again(model), images))
    assert [module.training for module in (model.fc, model.bn1)] == [False, True]


def build_again(model: Any) -> Any:
    return build(model.network, backend="torch", weights=dump(model), dtype="float64")


def test_outputs_captured_at_the_same_time_are_those_of_each_call() -> None:
    model = make_model()
    others: list[Any] = []
    images = draw_images().numpy()

    def capture_another(module: Any, inputs: Any, output: Any) -> None:
        if not others:  # the first call: another comes while it runs
            others.append(None)
            others[0] = capture(model, images[:1], ["relu"])

    model.layer1.register_forward_hook(capture_another)
    outputs = capture(model, images, ["relu", "layer1"])
    assert outputs["relu"].shape[0] == 3
    assert set(others[0]) == {"relu", ""}
    assert others[0]["relu"].shape[0] == 1


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")
def test_a_forward_set_on_a_module_runs_in_the_mode_that_is_asked_for() -> None:
    model = make_model().train()
    modes: list[bool] = []

    def forward(module: Any, x: Any) -> Any:
        modes.append(module.training)
        return x

    model.relu.forward = MethodType(forward, model.relu)
    run(model, draw_images().numpy())
    assert modes == [False]
    relu = model.relu
    relu.forward = lambda x: forward(relu, x)
    with pytest.raises(
        BackendError, match=r"a ReLU in the model can run in its own mode only, .* model\.train\(False\)"
    ):
        run(model, draw_images().numpy())
    run(model.eval(), draw_images().numpy())
    model.relu = torch.jit.script(torch.nn.ReLU())  # it keeps its mode in memory that a copy would share
    with pytest.raises(BackendError, match="scripted"):
        run(model, draw_images().numpy())


def synchronize(monkeypatch: pytest.MonkeyPatch, variance: str, dtype: Any) -> Any:
    """Return a batch norm synchronised with a second process, which has the same images."""
    model = build(
        loads(f"{{name: s, input: [2, 300, 300], stem: {{bn: {{op: batch_norm, variance: {variance}}}}}}}"),
        backend="torch",
    )
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    norm: Any = synchronize_norms(model).bn
    return norm.to(dtype).train()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("variance", ["unbiased", "biased"])
def test_synchronised_norms_compute_in_every_type(monkeypatch: pytest.MonkeyPatch, variance: str, dtype: str) -> None:
    norm = synchronize(monkeypatch, variance, getattr(torch, dtype))
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 2, 300, 300))).to(getattr(torch, dtype))
    y = norm(x)  # both processes together have 180,000 values per channel, which float16 cannot hold
    both = torch.cat([x, x]).double()
    tolerance = max(4 * torch.finfo(x.dtype).eps, 1e-12)
    expected = torch.nn.functional.batch_norm(both, None, None, training=True, eps=norm.eps)[:1]
    assert y.dtype == x.dtype
    assert torch.allclose(y.double(), expected, rtol=tolerance, atol=tolerance)
    new = both.var(dim=(0, 2, 3), correction=1 if variance == "unbiased" else 0)
    assert torch.allclose(norm.running_var.double(), 0.9 + 0.1 * new, rtol=tolerance + 1e-7)
    assert int(norm.num_batches_tracked) == 1


def test_synchronised_norms_average_all_batches_if_momentum_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = synchronize(monkeypatch, "unbiased", torch.float64)
    norm.momentum = None
    batches = [torch.full((1, 2, 300, 300), float(value), dtype=torch.float64) for value in (1, 2, 6)]
    for batch in batches:
        norm(batch)
    assert torch.allclose(norm.running_mean, torch.full((2,), 3.0, dtype=torch.float64))


def test_norms_that_keep_the_biased_variance_average_all_batches_if_momentum_is_none() -> None:
    network = loads("{name: s, input: [2, 3, 4], stem: {bn: {op: batch_norm, variance: biased}}}")
    norm: Any = build(network, backend="torch", dtype="float64").bn
    norm.train().momentum = None
    images = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 2, 2, 3, 4)))
    for batch in images:
        norm(batch)
    variances = torch.stack([batch.var(dim=(0, 2, 3), correction=0) for batch in images])
    assert torch.allclose(norm.running_var, variances.mean(dim=0), rtol=1e-12)


def test_a_part_that_was_compiled_runs_in_the_mode_that_is_asked_for() -> None:
    model = make_model()
    images = draw_images().numpy()
    expected = run(model, images)
    model.layer1 = torch.compile(model.layer1, backend="eager")
    model.bn1.compile(backend="eager")
    model.train()
    assert np.array_equal(run(model, images), expected)
    assert all(module.training for module in model.modules())


def test_a_training_run_leaves_the_statistics_as_they_were() -> None:
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_backend("torch").run(model, draw_images().numpy(), train=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


OVERWRITING = """
name: overwriting
input: [3, 8, 8]
stem: {conv: {op: conv, out: 4, kernel: 3, padding: 1}, norm: batch_norm, act: relu}
stages: {a: {block: basic, depth: 2, out: 4}}
"""


def make_identities(model: Any) -> None:
    """Replace layers so that the input of a rectifier, and of a sum, is also that of the block."""
    block = model.get_submodule("a.0")
    for name in ("conv1", "bn1", "conv2", "bn2"):
        setattr(block, name, torch.nn.Identity())


@pytest.mark.parametrize("change", [lambda model: None, make_identities])
def test_overwriting_without_gradients_changes_no_answer(change: Callable[[Any], None]) -> None:
    model = build(loads(OVERWRITING), backend="torch", seed=1)
    change(model)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32))
    before, expected = x.clone(), model(x)
    with torch.no_grad():
        assert torch.equal(model(x), expected)
    assert torch.equal(x, before)


def test_what_a_hook_or_a_caller_holds_is_not_overwritten() -> None:
    model = build(loads(OVERWRITING), backend="torch", seed=1)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32))
    held: dict[str, Any] = {}
    for name in ("norm", "a.0.bn1", "a.0.bn2", "a.0"):
        model.get_submodule(name).register_forward_hook(lambda module, inputs, y, name=name: held.update({name: y}))
    with torch.no_grad():
        model(x)
        expected = capture(model, x.numpy(), list(held))
    assert all(np.array_equal(tensor, expected[name]) for name, tensor in held.items())
    assert min(float(held[name].min()) for name in ("norm", "a.0.bn1", "a.0.bn2")) < 0


def test_without_gradients_rectifiers_and_sums_allocate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(loads(OVERWRITING), backend="torch")
    calls: list[str] = []
    relu = torch.relu_

    def count(x: Any) -> Any:
        calls.append("relu")
        return relu(x)

    monkeypatch.setattr(torch, "relu_", count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 8, 8))
    assert len(calls) == 5
    model(torch.zeros(1, 3, 8, 8))
    assert len(calls) == 5
