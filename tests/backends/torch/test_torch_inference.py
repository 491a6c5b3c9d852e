"""What is specific to PyTorch models built for inference: fused operators, the compiler, and changes by the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_spec import Network, build, capture, dump, load_weights, loads, run
from resnet_spec.backend import SGD, BackendError, load_backend
from resnet_spec.parity.random_networks import generate_network
from resnet_spec.weights.canonical import Array, comparison_weights, initialize
from shared.array_differences import relative_difference
from shared.frameworks import REQUIRED

if "torch" in REQUIRED:
    load_backend("torch")  # an installation that fails to import is an error then, not a skip
torch: Any = pytest.importorskip("torch")
from torch.nn.utils.parametrize import register_parametrization  # noqa: E402

LABELS = np.array([0, 1])
ONE_BLOCK = "{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}"


def draw_images(network: Network) -> Array:
    return np.random.default_rng(0).standard_normal((2, *network.input))


def build_resnet18() -> Any:
    return build("resnet18", backend="torch", mode="inference", input=(3, 32, 32), classes=5)


def difference(actual: Array, expected: Array) -> float:
    """Return the relative difference in float64."""
    return relative_difference(actual.astype(float), expected.astype(float))


@pytest.mark.parametrize("norm", ["{op: group_norm, groups: 2}", "{op: group_norm, size: 1}"])
def test_a_group_norm_of_values_far_from_zero_is_accurate(norm: str) -> None:
    """With channels last, torch's own would be wrong by 1e-3."""
    network = loads(
        f"{{name: n, input: [3, 48, 48], stem: {{c: {{op: conv, out: 8, kernel: 3, bias: true}}, n: {norm}}}}}"
    )
    weights = initialize(network) | {"c.bias": np.full(8, 30.0)}
    x = draw_images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", dtype="float32")
    expected = run(build(network, backend="numpy", weights=weights), x)
    assert difference(run(model, x.astype(np.float32)), expected) < 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_compute_the_same(seed: int) -> None:
    network = generate_network(seed)
    weights, x = comparison_weights(network), draw_images(network)
    expected = run(build(network, backend="numpy", weights=weights), x)
    model = build(network, backend="torch", weights=weights, mode="inference")
    assert difference(run(model, x), expected) < 1e-5


def test_the_whole_network_runs_fused() -> None:
    model = build_resnet18()
    run(model, draw_images(model.network))
    assert len(model._fused_rows) == 1


CHANGES: dict[str, Callable[[Any], Any]] = {
    "weights in place": lambda model: model.conv1.weight.data.mul_(3),
    "an appended module": lambda model: model.layer1.append(torch.nn.Tanh()),
    "a module": lambda model: setattr(model, "fc", torch.nn.Linear(512, 7)),
    "a parameter": lambda model: setattr(model, "scale", torch.nn.Parameter(torch.ones(1))),
    "an added module": lambda model: model.add_module("fc2", torch.nn.Tanh()),
    "a registered module": lambda model: model.register_module("fc2", torch.nn.Tanh()),
    "a registered parameter": lambda model: model.register_parameter("scale", torch.nn.Parameter(torch.ones(1))),
    "a buffer": lambda model: model.register_buffer("scale", torch.ones(1)),
    "a parametrization": lambda model: register_parametrization(model.conv1, "weight", torch.nn.Tanh()),
    "a hook of a part": lambda model: model.layer1[0].conv1.register_forward_hook(print),
    "the mode": lambda model: model.train(),
    "the mode by its attribute": lambda model: setattr(model, "training", True),
    "the network": lambda model: setattr(model, "network", None),
    "gradients": lambda model: model.requires_grad_(),
    "a state dict": lambda model: model.load_state_dict(model.state_dict()),
    "a trace": torch.fx.symbolic_trace,
    "a script": torch.jit.script,
    "a training step": lambda model: load_backend("torch").step(model, draw_images(model.network), LABELS, SGD()),
    "a training run": lambda model: load_backend("torch").run(model, draw_images(model.network), train=True),
    "gradients of a part": lambda model: load_backend("torch").vjp(model, "fc", np.ones((2, 512)), np.ones((2, 5))),
}
"""What would change or train a model, by what it would change."""


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_change_is_refused_and_leaves_the_model_as_it_was() -> None:
    model = build_resnet18()
    x = draw_images(model.network)
    expected = run(model, x)
    for what, change in CHANGES.items():
        with pytest.raises((AttributeError, TypeError, BackendError), match=r'mode="training"|load_weights'):
            change(model)
        assert np.array_equal(run(model, x), expected), what
    model.state_dict()["conv1.weight"].mul_(3)  # copies
    dump(model)["conv1.weight"] *= 3
    assert not list(model.parameters())
    assert not model.eval().training
    assert np.array_equal(run(model, x), expected)


def test_a_state_dict_has_the_weights_under_their_names() -> None:
    model = build_resnet18()
    weights = dump(model)
    state = torch.nn.ModuleDict({"backbone": model}).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        f"backbone.{name}": array.shape for name, array in weights.items()
    }
    assert np.array_equal(state["backbone.fc.weight"].numpy(), weights["fc.weight"])


def test_a_hook_of_the_whole_model_is_called() -> None:
    model = build_resnet18()
    outputs: list[Any] = []
    model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    run(model, draw_images(model.network))
    assert len(outputs) == 1


@pytest.mark.parametrize("compile", [False, True])
def test_a_model_can_be_converted_to_another_type(compile: bool) -> None:
    network = loads(ONE_BLOCK)
    weights, x = initialize(network), draw_images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", compile=compile)
    before = run(model, x)
    model.to(torch.float64)
    after, expected = run(model, x), run(build(network, backend="numpy", weights=weights), x)
    assert before.dtype == np.float32
    assert 1e-9 < difference(before, expected) < 1e-5
    assert difference(after, expected) < 1e-7  # the weights are folded in float32
    assert {array.dtype for array in dump(model).values()} == {np.dtype("float64")}


@pytest.mark.parametrize(
    "convert",
    [
        lambda model, x: torch.compile(model, backend="aot_eager", fullgraph=True),
        lambda model, x: torch.export.export(model, (x,)).module(),
    ],
)
def test_a_user_can_compile_and_export_it(convert: Callable[[Any, Any], Any]) -> None:
    model = build(loads(ONE_BLOCK), backend="torch", mode="inference")
    x = torch.from_numpy(draw_images(model.network)).float()
    assert torch.allclose(convert(model, x)(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_model_prints_its_layers() -> None:
    assert repr(build_resnet18()).startswith("Inference(\n  (conv1): Conv2d(3, 64")


def test_images_may_have_another_dtype_and_memory_format_and_stay_unchanged() -> None:
    model = build_resnet18()
    x = torch.from_numpy(draw_images(model.network))
    before = x.clone()
    y = model(x)
    assert y.dtype == torch.float64
    assert not y.requires_grad
    assert torch.equal(x, before)
    channels_last = x.float().contiguous(memory_format=torch.channels_last)
    assert torch.allclose(model(channels_last), y.float(), atol=1e-5)


def test_a_compiled_model_computes_the_same() -> None:
    network = loads(ONE_BLOCK)
    weights, x = initialize(network), draw_images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", compile=True)
    assert isinstance(model, torch.nn.Module)
    plain = build(network, backend="torch", weights=weights)
    assert difference(run(model, x), run(plain, x)) < 1e-5
    actual, expected = capture(model, x, ["a.0.conv1"])["a.0.conv1"], capture(plain, x, ["a.0.bn1"])["a.0.bn1"]
    assert difference(actual, expected) < 1e-5


def test_the_compiler_packs_the_weights_and_notices_when_they_change() -> None:
    from torch._dynamo.utils import counters

    model = build(loads(ONE_BLOCK), backend="torch", mode="inference", compile=True)
    x = draw_images(model.network)
    counters.clear()
    before = run(model, x)
    assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] == 3
    load_weights(model, {name: array / 2 for name, array in dump(model).items()})
    changed = build(model.network, backend="torch", weights=dump(model))
    assert difference(run(model, x), run(changed, x)) < 1e-5
    assert difference(run(model, x), before) > 1e-2
