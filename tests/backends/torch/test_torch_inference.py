"""What is specific to PyTorch models built for inference: fused operators, the compiler, and changes by the user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec import Network, build, capture, dump, load_weights, loads, run
from resnet_spec.backend import load_backend
from resnet_spec.parity.random_networks import generate_network
from resnet_spec.weights.canonical import Array, comparison_weights, initialize
from shared.array_differences import relative_difference
from shared.frameworks import REQUIRED

if "torch" in REQUIRED:
    load_backend("torch")  # an installation that fails to import is an error then, not a skip
torch: Any = pytest.importorskip("torch")

ONE_BLOCK = "{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}"


def draw_images(network: Network) -> Array:
    return np.random.default_rng(0).standard_normal((2, *network.input))


def build_resnet18() -> Any:
    return build("resnet18", backend="torch", mode="inference", input=(3, 32, 32), classes=5)


def difference(actual: Array, expected: Array) -> float:
    """Return the relative difference in float64."""
    return relative_difference(actual.astype(float), expected.astype(float))


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


def test_a_module_can_be_replaced() -> None:
    model = build_resnet18()
    x = draw_images(model.network)
    run(model, x)
    model.layer1[0].relu2 = torch.nn.Tanh()
    assert capture(model, x, ["layer1.0"])["layer1.0"].max() <= 1
    model.fc = torch.nn.Linear(512, 7)
    assert run(model, x).shape == (2, 7)


def test_a_hook_is_called() -> None:
    model = build_resnet18()
    x = draw_images(model.network)
    run(model, x)
    outputs: list[Any] = []
    model.layer1[0].conv1.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    run(model, x)
    assert len(outputs) == 1


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
