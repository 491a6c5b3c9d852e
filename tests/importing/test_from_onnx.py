"""ONNX files become specs: this project's own, torch's, and files to the conventions of others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import ImportRefused, build, from_onnx, load
from resnet_spec.backend import ExportOptions, load_backend
from resnet_spec.importing.dataflow import dataflow_fingerprint
from shared.frameworks import required

required("onnx")

from onnx import TensorProto, helper, numpy_helper, save_model  # noqa: E402

NETWORKS = [
    *("cifar/resnet20", "timm/skresnet18"),
    *(pytest.param(name, marks=pytest.mark.sweep) for name in ("resnet18", "timm/seresnet18", "timm/resnetblur18")),
]


def write(
    path: Path, nodes: list[Any], weights: dict[str, Any], input_shape: list[Any], rank: int, opset: int = 13
) -> Path:
    """Write a graph that reads ``x`` and returns the output of its last node, which has ``rank`` axes."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None] * rank)
    graph = helper.make_graph(nodes, "graph", [value], [output], tensors)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_comes_back(name: str, tmp_path: Path) -> None:
    network = load(name, input=(3, 32, 32))
    backend: Any = load_backend("onnx")
    backend.export(build(network, backend="onnx"), tmp_path / "n.onnx", ExportOptions("onnx"))
    imported = from_onnx(tmp_path / "n.onnx")
    assert imported.is_proven
    assert imported.network.weights().keys() == network.weights().keys()
    assert dataflow_fingerprint(imported.network) == dataflow_fingerprint(network)


@pytest.mark.parametrize("dynamo", [False, True])
def test_torchs_exporters(dynamo: bool, tmp_path: Path) -> None:
    required("torch")
    import torch

    from shared.strangers import SharedRelu

    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"dynamo": True} if dynamo else {"dynamo": False, "opset_version": 13}
        torch.onnx.export(SharedRelu().eval(), (torch.randn(1, 3, 64, 64),), str(tmp_path / "t.onnx"), **options)
    imported = from_onnx(tmp_path / "t.onnx")
    assert imported.is_proven
    assert "layer2.0.downsample.0.weight" in imported.weights
    assert "depth: 3, out: 64, width: 16, stride: 2" in imported.spec
    assert len(imported.spec.splitlines()) < 30


def test_a_file_without_names(tmp_path: Path) -> None:
    """As Paddle's exporter writes: p2o.Conv.0 and conv2d_0.w_0, no modules, MatMul and Add for a linear layer."""
    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: dict[str, Any] = {}
    x = "x"

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"p2o.{kind}.{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(x: str, inner: int, outer: int, kernel: int, stride: int = 1) -> str:
        name = f"conv2d_{len(weights)}.w_0"
        weights[name] = (rng.standard_normal((outer, inner, kernel, kernel)) / 5).astype(np.float32)
        pads = [kernel // 2] * 4
        return add("Conv", [x, name], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    x = add("Relu", [conv(x, 3, 4, 3, 2)])
    for stride in (1, 2):  # the second has a projection
        branch = conv(add("Relu", [conv(x, 4, 4, 3, stride)]), 4, 4, 3)
        x = add("Relu", [add("Add", [branch, x if stride == 1 else conv(x, 4, 4, 1, 2)])])
    weights |= {
        "linear_0.w_0": rng.standard_normal((4, 5)).astype(np.float32),
        "linear_0.b_0": rng.standard_normal(5).astype(np.float32),
        "shape": np.array([0, -1], np.int64),
    }
    x = add("Reshape", [add("GlobalAveragePool", [x]), "shape"])
    add("Add", [add("MatMul", [x, "linear_0.w_0"]), "linear_0.b_0"])
    imported = from_onnx(write(tmp_path / "paddle.onnx", nodes, weights, ["batch", 3, 16, 16], 2))
    assert imported.is_proven
    assert list(imported.weights) == [
        "conv1.weight", "blocks.0.conv1.weight", "blocks.0.conv2.weight", "blocks.1.conv1.weight",
        "blocks.1.conv2.weight", "blocks.1.shortcut_conv1.weight", "fc1.weight", "fc1.bias",
    ]  # fmt: skip
    assert "block: residual, depth: 2" in imported.spec


def test_channels_last_and_automatic_padding(tmp_path: Path) -> None:
    """As tf2onnx writes: the images have their channels last, and pads are SAME_UPPER."""
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    bias = np.arange(4, dtype=np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "kernel", "bias"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["r"], axes=[2, 3], keepdims=0),
    ]
    path = write(tmp_path / "tf.onnx", nodes, {"kernel": kernel, "bias": bias}, [1, 15, 15, 3], 2, opset=11)
    imported = from_onnx(path)
    assert imported.is_proven
    assert imported.network.input == (3, 15, 15)
    assert [type(leaf.op).__name__ for leaf in imported.network.leaves()] == ["Conv", "Silu", "GlobalAvgPool"]
    assert "padding: same" in imported.spec


def test_every_unknown_operator_is_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LRN", ["x"], ["a"], size=3, name="norm"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("DepthToSpace", ["b"], ["c"], blocksize=2, name="grow"),
    ]
    with pytest.raises(ImportRefused) as caught:
        from_onnx(write(tmp_path / "unknown.onnx", nodes, {}, [1, 4, 8, 8], 4))
    assert [place.split(":")[1].strip() for place in caught.value.places] == ["LRN norm", "DepthToSpace grow"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\x07 no model")
    with pytest.raises(ImportRefused, match=r"damaged\.onnx is no ONNX model that can be read"):
        from_onnx(tmp_path / "damaged.onnx")
    with pytest.raises(FileNotFoundError, match="no file named"):
        from_onnx(tmp_path / "absent.onnx")


def test_a_norm_written_as_many_operators(tmp_path: Path) -> None:
    """As exporters write a layer normalisation before opset 17, with the channels first."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": (rng.standard_normal((8, 3, 1, 1)) / 2).astype(np.float32),
        "norm.weight": rng.uniform(0.5, 1.5, (8, 1, 1)).astype(np.float32),
        "norm.bias": rng.standard_normal((8, 1, 1)).astype(np.float32),
        "epsilon": np.float32(1e-6),
        "two": np.float32(2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["mean"], axes=[1]),
        helper.make_node("Sub", ["c", "mean"], ["centred"]),
        helper.make_node("Pow", ["centred", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["variance"], axes=[1]),
        helper.make_node("Add", ["variance", "epsilon"], ["raised"]),
        helper.make_node("Sqrt", ["raised"], ["root"]),
        helper.make_node("Div", ["centred", "root"], ["normal"]),
        helper.make_node("Mul", ["normal", "norm.weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "norm.bias"], ["y"]),
    ]
    imported = from_onnx(write(tmp_path / "norm.onnx", nodes, weights, [1, 3, 9, 7], 4))
    assert imported.is_proven
    assert [type(leaf.op).__name__ for leaf in imported.network.leaves()] == ["Conv", "LayerNorm"]
    assert "norm.bias" in imported.weights


def test_norms_pools_and_means_as_keras_and_jax_export_them(tmp_path: Path) -> None:
    """A norm as a difference, a product and a sum; a maximum of copied edges; a mean as a sum that is divided."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": (rng.standard_normal((4, 3, 3, 3)) / 5).astype(np.float32),
        "mean": rng.standard_normal((1, 4, 1, 1)).astype(np.float32),
        "factor": rng.uniform(0.5, 1.5, (1, 4, 1, 1)).astype(np.float32),
        "shift": rng.standard_normal((1, 4, 1, 1)).astype(np.float32),
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64),
        "axes": np.array([2, 3], np.int64),
        "count": np.float32(16),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], auto_pad="SAME_UPPER"),
        helper.make_node("Sub", ["c", "mean"], ["a"]),
        helper.make_node("Mul", ["a", "factor"], ["b"]),
        helper.make_node("Add", ["b", "shift"], ["n"]),
        helper.make_node("Pad", ["n", "pads"], ["p"], mode="edge"),
        helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("ReduceSum", ["m", "axes"], ["s"], keepdims=0),
        helper.make_node("Div", ["s", "count"], ["y"]),
    ]
    imported = from_onnx(write(tmp_path / "keras.onnx", nodes, weights, [1, 3, 8, 8], 2))
    assert imported.is_proven
    found = [type(leaf.op).__name__ for leaf in imported.network.leaves()]
    assert found == ["Conv", "BatchNorm", "MaxPool", "GlobalAvgPool"]


def make_weights(**shapes: tuple[int, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def conv(source: str, output: str, weight: str = "w", **attributes: Any) -> Any:
    return helper.make_node("Conv", [source, weight], [output], name=output, **attributes)


def test_until_is_a_value_of_the_file(tmp_path: Path) -> None:
    nodes = [conv("x", "a"), helper.make_node("Relu", ["a"], ["b"])]
    path = write(tmp_path / "n.onnx", nodes, make_weights(w=(4, 3, 3, 3)), [1, 3, 8, 8], 4)
    assert from_onnx(path, until="a").is_proven
    assert [part.path for part in from_onnx(path, until="a").network.parts] == ["a"]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_file_of_one_batch_size(batch: int, tmp_path: Path) -> None:
    weights = make_weights(w=(4, 3, 3, 3))
    assert from_onnx(write(tmp_path / "n.onnx", [conv("x", "a")], weights, [batch, 3, 8, 8], 4)).is_proven


def test_maps_with_channels_last_are_outputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        conv("t", "a"),
        helper.make_node("Transpose", ["a"], ["y"], perm=[0, 2, 3, 1]),
    ]
    imported = from_onnx(write(tmp_path / "n.onnx", nodes, make_weights(w=(4, 3, 3, 3)), [1, 8, 9, 3], 4))
    assert imported.network.output_shape == (4, 6, 7)
    assert "the output y has its channels last" in imported.notes[0]


def test_gemm_with_factors_and_one_bias(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0),
    ]
    weights = make_weights(w=(3, 5), b=(1,))
    network, arrays = from_onnx(write(tmp_path / "n.onnx", nodes, weights, [1, 3, 4, 4], 2))
    assert {name: array.shape for name, array in arrays.items()} == network.weights()


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (9, 2), (8, 2)])
def test_padding_with_the_odd_row_above(side: int, stride: int, tmp_path: Path) -> None:
    nodes = [conv("x", "a", auto_pad="SAME_LOWER", strides=[stride, stride])]
    assert from_onnx(write(tmp_path / "n.onnx", nodes, make_weights(w=(4, 3, 3, 3)), [1, 3, side, side], 4)).is_proven


def make_resize(transform: str, rounding: str, factor: float = 2) -> Any:
    settings = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
    scales = np.array([1, 1, factor, factor], np.float32)
    return [helper.make_node("Resize", ["x", "", "scales"], ["y"], name="grow", **settings)], {"scales": scales}


@pytest.mark.parametrize("transform", ["asymmetric", "half_pixel", "align_corners"])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_pixels_are_those_that_the_modes_say(transform: str, rounding: str, tmp_path: Path) -> None:
    for factor in (2, 3):
        nodes, weights = make_resize(transform, rounding, factor)
        try:
            assert from_onnx(write(tmp_path / "n.onnx", nodes, weights, [1, 3, 4, 4], 4)).is_proven
        except ImportRefused as error:
            assert (transform, rounding) not in [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")]
            assert "nearest_mode" in str(error)  # not the proof


def test_files_that_no_comparison_runs_are_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [value], [output])
    save_model(helper.make_model(graph), str(tmp_path / "n.onnx"))
    with pytest.raises(ImportRefused, match="the input x is of the type float16"):
        from_onnx(tmp_path / "n.onnx")
    nodes = [helper.make_node("PRelu", ["x", "slope"], ["y"])]
    with pytest.raises(ImportRefused, match="PRelu that gives y: a PRelu with other than one slope per channel"):
        from_onnx(write(tmp_path / "n.onnx", nodes, make_weights(slope=(3, 8, 8)), [1, 3, 8, 8], 4))
