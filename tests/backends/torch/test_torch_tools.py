"""PyTorch's own tools for whole models: tracing, scripting, quantisation, feature extraction, synchronised norms."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, capture, load, loads
from resnet_spec.backend import load_backend
from resnet_spec.weights.canonical import comparison_weights
from shared.every_operation import EVERY_OPERATION
from shared.frameworks import REQUIRED
from shared.torchvision_operators import declare_torchvision_operators

if "torch" in REQUIRED:
    load_backend("torch")  # an installation that fails to import is an error then, not a skip
torch: Any = pytest.importorskip("torch")
from torch.ao import quantization  # noqa: E402
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*deprecated:DeprecationWarning",  # torch.jit and torch.ao are deprecated as a whole
    "ignore:.*deprecated:UserWarning",
    "ignore:The TorchScript type system:UserWarning",  # about torch's own GraphModule
    "ignore:Please use quant_min and quant_max:UserWarning",  # about torch's own default settings
)

BRANCHES = """
name: branches
input: [3, 20, 17]
blocks:
  gate: {combine: multiply, branch: {squeeze: global_avg_pool, fc: {op: linear, out: in}, act: sigmoid}}
stem:
  conv1: {op: conv, out: 12, kernel: 3, stride: 2}
  bn1: norm
  side:
    split: true
    cascade: true
    combine: concat
    branches: [{sides.0: {op: conv, out: 4, kernel: 3, padding: 1}}, {sides.1: {op: conv, out: 4, kernel: 1}}, none]
  gate: gate
head: {avgpool: global_avg_pool, fc: {op: linear, out: 5}}
"""
STOCHASTIC = """
name: stochastic
input: [3, 20, 17]
stem: {conv1: {op: conv, out: 16, kernel: 3, stride: 2}, bn1: {op: batch_norm, variance: biased}, relu: act}
head:
  path: {op: drop_path, rate: 0.5}
  squares: {op: drop_block, rate: 0.5, size: 3}
  avgpool: global_avg_pool
  fc: {op: linear, out: 5}
"""


def make_model(spec: str = "", dtype: str = "float64") -> Any:
    network = loads(spec) if spec else load("resnet18", input=(3, 32, 32), classes=5)
    return build(network, backend="torch", weights=comparison_weights(network), dtype=dtype)


def draw_images(model: Any, count: int = 3) -> Any:
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((count, *model.network.input)))
    return images.to(next(model.parameters()).dtype)


def run_both(model: Any, other: Any, images: Any) -> list[Any]:
    """Return the outputs of two models, each started from the same random state."""
    outputs = []
    for function in (model, other):
        torch.manual_seed(0)
        outputs.append(function(images))
    return outputs


def assert_equal(model: Any, other: Any, images: Any) -> None:
    expected, actual = run_both(model, other, images)
    assert torch.allclose(actual, expected, rtol=1e-12, atol=1e-12)


def statistics(model: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in model.state_dict().items() if "running" in name or "tracked" in name}


SPECS = pytest.mark.parametrize("spec", ["", EVERY_OPERATION, STOCHASTIC], ids=["resnet18", "operations", "stochastic"])


def test_a_norm_is_torchs_own_unless_the_spec_asks_for_the_biased_variance() -> None:
    model = make_model(STOCHASTIC.replace("relu: act", "relu: act, bn2: norm"))
    assert type(model.bn2) is torch.nn.BatchNorm2d
    assert type(model.bn1) is not torch.nn.BatchNorm2d


@SPECS
@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_a_traced_model_computes_the_same(spec: str, train: bool) -> None:
    model = make_model(spec).train(train)
    images = draw_images(model)
    traced = torch.fx.symbolic_trace(model)
    if train:  # each model has its own statistics then
        other = make_model(spec).train()
        assert_equal(traced, other, images)
        for name, tensor in statistics(other).items():
            assert torch.allclose(traced.state_dict()[name].double(), tensor.double(), rtol=1e-12), name
    else:
        assert_equal(model, traced, images)


@SPECS
@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.share(2)
def test_a_scripted_model_computes_the_same_in_both_modes(spec: str, train: bool) -> None:
    model = make_model(spec)
    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(model), saved)
    saved.seek(0)
    scripted = torch.jit.load(saved).train(train)
    assert_equal(model.train(train), scripted, draw_images(model))
    for name, tensor in statistics(model).items():
        assert torch.allclose(scripted.state_dict()[name].double(), tensor.double(), rtol=1e-12), name


def test_a_traced_model_can_be_scripted_and_several_outputs_too() -> None:
    model = build("resnet18", backend="torch", input=(3, 32, 32), outputs=["layer1", "layer3"])
    images = draw_images(model)
    expected = model(images)
    for scripted in (torch.jit.script(model), torch.jit.script(torch.fx.symbolic_trace(model))):
        assert all(map(torch.equal, scripted(images), expected))


def test_parallel_branches_and_gates_can_be_traced() -> None:
    model = make_model(BRANCHES)
    assert_equal(model, torch.fx.symbolic_trace(model), draw_images(model))


def test_norms_can_be_fused_into_convolutions_by_quantizations_own_function() -> None:
    model = make_model()
    layers = [["conv1", "bn1", "relu"], ["layer1.0.conv1", "layer1.0.bn1"]]
    fused = quantization.fuse_modules(model, layers)
    assert type(fused.bn1) is torch.nn.Identity
    assert_equal(model, fused, draw_images(model))


def test_a_model_can_be_quantized_by_tracing() -> None:
    model = make_model(dtype="float32")
    images = draw_images(model)
    prepared = prepare_fx(model, quantization.get_default_qconfig_mapping(), (images,))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in prepared.modules())
    assert torch.allclose(prepared(images), model(images), rtol=1e-3, atol=1e-3)
    assert re.search(r"QuantizedConvReLU2d\(3, 64", repr(convert_fx(prepared)))


def test_torchs_synchronised_norms_replace_those_of_a_model() -> None:
    model = make_model()
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(make_model())
    assert isinstance(converted.layer1[0].bn1, torch.nn.SyncBatchNorm)
    assert_equal(model, converted, draw_images(model))  # the tensors of both models' norms are equal


def test_torchvision_extracts_features_of_parts() -> None:
    declare_torchvision_operators()
    extraction = pytest.importorskip("torchvision.models.feature_extraction", reason="torchvision is not installed")
    model = make_model()
    images = draw_images(model)
    extractor = extraction.create_feature_extractor(model, ["layer1.0.bn1", "layer2", "fc"])
    expected = capture(model, images.numpy(), ["layer1.0.bn1", "layer2"])
    features = extractor(images)
    assert np.allclose(features["layer1.0.bn1"].detach(), expected["layer1.0.bn1"], rtol=1e-12)
    assert np.allclose(features["layer2"].detach(), expected["layer2"], rtol=1e-12)
    assert np.allclose(features["fc"].detach(), expected[""], rtol=1e-12)
    assert extractor.train()(images)["layer2"].requires_grad
