"""ONNX files in 8-bit integers: the loss of each operation is measured, and the one that loses most is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_spec import loads
from resnet_spec.backend import BackendError, ExportOptions, load_backend, load_exporter
from resnet_spec.commands.export import BACKENDS
from resnet_spec.network.network import Network
from resnet_spec.parity.case import Case
from resnet_spec.parity.quantization import QuantizationLoss, measure_loss
from resnet_spec.transforms.norm_folding import fold_norms
from resnet_spec.weights.canonical import Array
from shared.command_line import run_cli
from shared.frameworks import required

required("onnx")
onnx: Any = pytest.importorskip("onnx")

SPEC = """
name: small
input: [3, 16, 16]
preprocess: {resize: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
stem: {conv: {op: conv, out: 8, kernel: 3, padding: 1}, norm: norm, relu: relu}
stages: {layer1: {block: basic, depth: 2, out: 8}}
head: {pool: global_avg_pool, fc: {op: linear, out: 5}}
"""


def save_images(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def measure(network: Network, weights: dict[str, Array], path: Path) -> QuantizationLoss:
    images = [np.random.default_rng(number).standard_normal((1, *network.input)) for number in range(4)]
    backend = load_backend("onnx")
    model = backend.build(network, {n: w.astype(np.float32) for n, w in weights.items()}, "float32")
    backend.export(model, path, ExportOptions("onnx", calibration=images))
    return measure_loss(network, weights, images, lambda x, paths: backend.run_file(path, x, paths))


def test_the_command_writes_integers_and_prints_the_loss(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(SPEC)
    save_images(tmp_path / "images")
    done = run_cli("export", "n.yaml", "-o", "a.onnx", "--int8", "images", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["int8"]
    losses = {node["path"]: node for node in data["nodes"]}
    assert 1e-4 < losses["fc"]["error"] < 0.1
    assert data["worst"] in losses
    assert (data["images"], data["agreeing"] <= 4) == (4, True)
    kinds = {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert "BatchNormalization" not in kinds
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "images", "n.yaml"]


def test_an_operation_whose_range_is_spoilt_is_named(tmp_path: Path) -> None:
    """A channel of large values, which the next convolution ignores, leaves few integers to the others."""
    network = loads(SPEC)
    network, weights = fold_norms(network, Case(network).weights())
    before = measure(network, weights, tmp_path / "a.onnx")
    assert max(node.error for node in before.nodes) < 0.05
    weights["layer1.1.conv1.bias"][0] = 100
    weights["layer1.1.conv2.weight"][:, 0] = 0
    after = measure(network, weights, tmp_path / "b.onnx")
    errors = {node.path: node.error for node in after.nodes}
    assert errors["layer1.0.relu2"] < 0.05 < errors["layer1.1.conv2"]
    assert after.worst.path == "layer1.1.conv2"
    assert after.describe().startswith("layer1.1.conv2 (conv) loses most: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--int8", "none"], "error: no folder named 'none'"),
        (["--int8", "images", "--batch", "4"], "--int8 reads images one by one; --batch can be 1 or dynamic"),
        (["--int8", "."], "error: no images in '.'; put some there"),
        (["--int8", "images", "--dtype", "float64"], "--int8 quantises a network in float32; omit --dtype"),
        (["--format", "pt2", "--int8", "images"], "error: the format pt2 of backend 'torch' has no option calibration"),
        (["--format", "stablehlo", "--opset", "17"], "error: the format stablehlo of backend 'flax' has no option"),
        (["--training-step"], "error: the format onnx of backend 'onnx' has no option training_step; leave it out"),
        (["--backend", "numpy"], "error: backend 'numpy' does not write the format 'onnx'"),
        (["--input", "0xHxW"], "error: "),
    ],
)
@pytest.mark.share(3)
def test_what_a_format_lacks_is_an_error(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(SPEC)
    save_images(tmp_path / "images", 1)
    done = run_cli("export", "n.yaml", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "n.yaml"]


@pytest.mark.parametrize(("form", "name"), BACKENDS.items())
def test_each_format_has_a_backend_that_declares_it(form: str, name: str) -> None:
    required(name)
    assert load_exporter(name, ExportOptions(form))[1].name == form
    with pytest.raises(BackendError, match=r"does not write the format 'jpeg'; it writes "):
        load_exporter(name, ExportOptions("jpeg"))
