"""ONNX files for images of any height and width: windows whose padding depends on the size compute it in the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, load, loads, run
from resnet_spec.backend import ExportOptions, load_backend
from resnet_spec.network.network import Network
from resnet_spec.parity.case import Case
from shared.array_differences import relative_difference
from shared.command_line import run_cli
from shared.frameworks import required

required("onnx")
onnx: Any = pytest.importorskip("onnx")

SIZES = ((24, 32), (48, 40), (31, 45))


def check_sizes(network: Network, path: Path, dtype: str = "float32", sizes: Any = SIZES) -> Any:
    """Write a network for any size, and compare it with the reference at some; return the ONNX model."""
    from resnet_spec_onnx.run import make_evaluator

    weights = Case(network).weights()
    model = build(network, backend="onnx", weights=weights, dtype=dtype)
    load_backend("onnx").export(model, path, ExportOptions("onnx", None, free_size=True))
    evaluator = make_evaluator(path, dtype)
    for height, width in sizes:
        x = np.random.default_rng(0).standard_normal((2, network.input[0], height, width)).astype(dtype)
        expected = run(build(network, backend="numpy", weights=weights, dtype=dtype), x)
        (actual,) = evaluator.run(None, {"input": x})
        gate = 1e-5 if dtype == "float32" else 1e-12
        assert relative_difference(actual.astype(expected.dtype), expected) <= gate, (height, width)
    return onnx.load(path)


WINDOWS = [
    "{op: conv, out: 6, kernel: 3, stride: 2, padding: same}",
    "{op: conv, out: 6, kernel: [3, 5], stride: [2, 3], padding: same, dilation: 2}",
    "{op: max_pool, kernel: 3, stride: 2, padding: same}",
    "{op: max_pool, kernel: 3, stride: 2, padding: 1, ceil: true}",
    "{op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}",
    "{op: avg_pool, kernel: 3, stride: 2, padding: same}",
    "{op: avg_pool, kernel: [2, 3], stride: 2, padding: same, count_padding: true}",
    "{op: avg_pool, kernel: 2, stride: 3, padding: 1, ceil: true}",
    "{op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true, count_padding: true}",
    "{op: avg_pool, kernel: 3, stride: 2, ceil: true, count_padding: true}",
    "blur_pool",
    "{op: group_norm, groups: 2}",
    "{op: evo_norm_s0, groups: 2}",
    "{op: split_softmax, parts: 2, groups: 2}",
    "{op: split_sum, parts: 2}",
    "{op: channel_shuffle, groups: 2}",
    "global_response_norm",
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", WINDOWS)
@pytest.mark.share(3)
def test_an_operation_takes_any_size(layer: str, dtype: str, tmp_path: Path) -> None:
    network = loads(f"{{name: n, input: [4, 24, 32], stem: {{a: {layer}}}}}")
    check_sizes(network, tmp_path / "a.onnx", dtype)


@pytest.mark.parametrize("order", ["channel_row_column", "row_column_channel"])
def test_tiles_take_any_size_that_they_divide(order: str, tmp_path: Path) -> None:
    layer = f"{{op: space_to_depth, size: 2, order: {order}}}"
    network = loads(f"{{name: n, input: [3, 24, 32], stem: {{a: {layer}}}}}")
    check_sizes(network, tmp_path / "a.onnx", sizes=SIZES[:2])


@pytest.mark.parametrize("name", ["cifar/resnet20", "timm/tf_mobilenetv3_small_075"])
def test_a_network_takes_any_size(name: str, tmp_path: Path) -> None:
    network = load(name, input=(3, 32, 32))
    model = check_sizes(network, tmp_path / "a.onnx", sizes=((32, 32), (75, 48)))
    (image,), (output,) = model.graph.input, model.graph.output
    names = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    assert names == ["batch", 3, "height", "width"]
    assert [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim] == [
        "batch",
        *network.output_shape,
    ]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            "{conv: {op: conv, out: 4, kernel: 1}, flat: flatten, fc: {op: linear, out: 2}}",
            "flat gives 256 values for this image, and 1024 for one of twice the height and width",
        ),
        (
            "{pool: {op: adaptive_avg_pool, size: 3}}",
            "pool is an operation adaptive_avg_pool, whose file holds a matrix for one size",
        ),
        ("{up: upsample}", "up is an operation upsample, whose file holds a matrix for one size"),
    ],
)
def test_an_error_names_the_part_that_fixes_the_size(layers: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(f"{{name: n, input: [3, 8, 8], stem: {layers}}}")
    done = run_cli("export", "n.yaml", "--input", "3xHxW", folder=tmp_path)
    message = f"error: height and width of n cannot be free: {reason}; give a size, as in 3x8x8"
    assert (done.returncode, done.stderr.strip()) == (2, message)
    assert [path.name for path in tmp_path.iterdir()] == ["n.yaml"]
