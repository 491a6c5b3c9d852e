"""What is specific to PyTorch: models look as its users expect, and work with its own tools."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, load, loads, run
from resnet_spec.backend import load_backend
from resnet_spec.weights.canonical import comparison_weights
from shared.frameworks import REQUIRED

if "torch" in REQUIRED:
    load_backend("torch")  # an installation that fails to import is an error then, not a skip
torch: Any = pytest.importorskip("torch")

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


def test_a_model_prints_like_one_of_torch() -> None:
    text = repr(build("resnet18", backend="torch"))
    assert text.startswith(
        "ResNet(\n  (conv1): Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)"
    )
    assert "  (layer1): Sequential(\n    (0): Residual(" in text
    assert re.search(r"\(downsample\): Sequential\(\s+\(0\): Conv2d", text)


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
