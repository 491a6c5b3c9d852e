"""What is particular to PyTorch: models are what its users expect, and work with its own tools."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, load, loads, run
from resnet_spec.backend import load_backend
from resnet_spec.weights.canonical import comparison_weights
from shared.frameworks import REQUIRED

if "torch" in REQUIRED:
    load_backend("torch")  # whatever is wrong with it is an error, not a skip
torch: Any = pytest.importorskip("torch")

SMALL = """
name: small
input: [3, 20, 17]
stem: {conv1: {op: conv, out: 8, kernel: 3, stride: 2}, bn1: norm, relu: act}
stages: {layer1: {block: bottleneck, depth: 2, out: 12, width: 4, attention: {block: squeeze_excite, reduced: 4}}}
head: {avgpool: global_avg_pool, fc: {op: linear, out: 5}}
"""


def model() -> Any:
    network = loads(SMALL)
    return build(network, backend="torch", weights=comparison_weights(network), dtype="float64")


def images(count: int = 3) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 3, 20, 17)))


def test_state_dict_has_the_canonical_names_in_order() -> None:
    names = [
        name for name in build("resnet18", backend="torch").state_dict() if not name.endswith("num_batches_tracked")
    ]
    assert names == list(load("resnet18").weights())


def test_it_prints_as_torchs_own_do() -> None:
    shown = repr(build("resnet18", backend="torch"))
    assert shown.startswith(
        "ResNet(\n  (conv1): Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)"
    )
    assert "  (layer1): Sequential(\n    (0): Residual(" in shown
    assert re.search(r"\(downsample\): Sequential\(\s+\(0\): Conv2d", shown)


def test_parameters_are_what_is_learnt() -> None:
    network = load("resnet18")
    found = sum(parameter.numel() for parameter in build(network, backend="torch").parameters())
    assert found == network.parameters


def test_a_layer_can_be_replaced() -> None:
    changed = model()
    changed.fc = torch.nn.Linear(12, 2, dtype=torch.float64)
    assert changed(images()).shape == (3, 2)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_the_same(copied: Callable[[Any], Any]) -> None:
    assert torch.equal(copied(model())(images()), model()(images()))


def test_its_state_goes_into_another_of_its_kind() -> None:
    network = loads(SMALL)
    other = build(network, backend="torch", seed=5, dtype="float64")
    other.load_state_dict(model().state_dict(), strict=True)
    assert torch.equal(other(images()), model()(images()))


def test_exported_it_computes_the_same() -> None:
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model(), (images(),), dynamic_shapes={"images": {0: batch}})
    assert torch.allclose(exported.module()(images(4)), model()(images(4)), rtol=1e-12, atol=1e-12)


def test_compiled_it_computes_the_same() -> None:
    compiled = torch.compile(model(), backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(images()), model()(images()), rtol=1e-12, atol=1e-12)
    assert run(compiled, images().numpy()).shape == (3, 5)


def test_compiled_it_trains_the_same() -> None:
    losses = []
    for compile in (lambda model: model, lambda model: torch.compile(model, backend="aot_eager")):
        trained = compile(model().train())  # type: ignore[no-untyped-call]
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.0625)
        steps = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = trained(images()).square().mean()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        losses.append(steps)
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
def test_the_running_variance_is_the_one_asked_for(variance: str) -> None:
    network = loads(
        f"{{name: s, input: [2, 3, 4], stem: {{bn: {{op: batch_norm, variance: {variance}, decay: 0.5}}}}}}"
    )
    norm = build(network, backend="torch", dtype="float64").train()
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 2, 3, 4))).requires_grad_()
    norm(x).square().sum().backward()
    wanted = x.var(dim=(0, 2, 3), correction=1 if variance == "unbiased" else 0)
    assert torch.allclose(norm.bn.running_var, (1 + wanted) / 2, rtol=1e-12)
