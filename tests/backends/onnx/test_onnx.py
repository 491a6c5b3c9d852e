"""Networks as ONNX models: what they compute, what the files hold, and what is refused."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from resnet_spec import BackendError, build, load, loads, run
from resnet_spec.backend import load_backend
from resnet_spec.commands.main import cli
from resnet_spec.library import bundled
from resnet_spec.parity.case import Case
from resnet_spec.weights.canonical import comparison_weights
from shared.frameworks import required

required("onnx")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from resnet_spec_onnx.graph import INPUT  # noqa: E402  # where it is not installed these tests are skipped
from resnet_spec_onnx.modules import ResNet  # noqa: E402
from shared.sampling import one_in  # noqa: E402

GATES = {"float64": 1e-12, "float32": 1e-5}
NAMES = bundled.names()


@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize(
    "op",
    [
        "{op: conv, out: 6, kernel: 3, stride: 2, padding: 2, dilation: 2, groups: 2, bias: true}",
        "{a: flatten, b: {op: linear, out: 5}}",
        "{a: flatten, b: {op: linear, out: 5, bias: false}}",
        "{op: batch_norm, epsilon: 0.01}",
        "{op: batch_norm, affine: false}",
        "{op: group_norm, groups: 2, epsilon: 0.01}",
        "layer_norm",
        "{a: flatten, b: layer_norm}",
        "relu",
        "relu6",
        "{op: leaky_relu, slope: 0.2}",
        "elu",
        "gelu",
        "{op: gelu, approximate: true}",
        "silu",
        "sigmoid",
        "tanh",
        "hard_sigmoid",
        "hard_swish",
        "{op: max_pool, kernel: 3, stride: 2, padding: 1}",
        "{op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}",
        "{op: avg_pool, kernel: 2, stride: 2, ceil: true}",
        "{op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true}",
        "{op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true, count_padding: true}",
        "global_avg_pool",
        "{op: global_avg_pool, keepdims: true}",
        "global_max_pool",
        "{op: global_max_pool, keepdims: true}",
        "{op: standardized_conv, out: 6, kernel: 3, padding: 1, groups: 2}",
        "{a: flatten, b: {op: channel_conv, kernel: 5}}",
        "{op: group_norm, size: 2}",
        "{op: evo_norm_s0, groups: 2}",
        "{op: filter_response_norm, epsilon: 0.01}",
        "blur_pool",
        "{op: pad_channels, before: 1, after: 2}",
        "{op: split_sum, parts: 2}",
        "{a: flatten, b: {op: split_sum, parts: 4}}",
        "{op: split_softmax, parts: 2, groups: 2}",
        "{a: flatten, b: {op: split_softmax, parts: 2, groups: 2}}",
        "{op: drop_path, rate: 0.5}",
        "{op: drop_block, rate: 0.5}",
        "{op: zero_pad, top: 1, bottom: 2, left: 3, right: 0}",
        "{op: dropout, rate: 0.5}",
        "identity",
    ],
)
def test_an_operation_is_the_references(op: str, dtype: str) -> None:
    network = loads(f"{{name: one, input: [4, 9, 12], stem: {{first: norm, x: {op}}}}}")
    x = 3 * np.random.default_rng(0).standard_normal((2, *network.input))
    wanted, found = (
        run(build(network, backend=name, weights=comparison_weights(network), dtype=dtype), x.astype(dtype))
        for name in ("numpy", "onnx")
    )
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert np.abs(found - wanted).max() <= GATES[dtype] * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
def test_zeros_before_a_pooling_stay_zeros(pool: str, dtype: str) -> None:
    """On negative images they are the largest in their windows; ONNX Runtime would take them for minus infinity."""
    stem = f"{{pad: {{op: zero_pad, top: 1, left: 1, bottom: 1}}, pool: {{op: {pool}, kernel: 3, stride: 2}}}}"
    network = loads(f"{{name: padded, input: [2, 9, 12], stem: {{conv: {{op: conv, out: 2, kernel: 1}}, p: {stem}}}}}")
    weights = {"conv.weight": np.eye(2)[:, :, None, None]}
    x = -1 - np.random.default_rng(0).random((2, *network.input))
    wanted, found = (
        run(build(network, backend=name, weights=weights, dtype=dtype), x.astype(dtype)) for name in ("numpy", "onnx")
    )
    assert np.abs(found - wanted).max() <= GATES[dtype] * np.abs(wanted).max()


def exported(folder: Path, *arguments: str) -> Any:
    """What the command writes."""
    path = folder / "model.onnx"
    done = CliRunner().invoke(cli, ["export", *arguments, "-o", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return onnx.load(path)


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_a_file_computes_the_same_in_every_opset(opset: int, tmp_path: Path) -> None:
    network = load("preact_resnet18_cifar", input=(3, 40, 56), classes=7)
    save_file(
        {name: a.astype(np.float32) for name, a in comparison_weights(network).items()}, tmp_path / "w.safetensors"
    )
    options = ("--input", "3x40x56", "--set", "classes=7", "--opset", str(opset), "--batch", "dynamic")
    proto = exported(tmp_path, "preact_resnet18_cifar", "--weights", str(tmp_path / "w.safetensors"), *options)
    assert [entry.version for entry in proto.opset_import] == [opset]
    x = np.random.default_rng(0).standard_normal((2, *network.input)).astype(np.float32)
    wanted = run(build(network, backend="numpy", weights=comparison_weights(network), dtype="float32"), x)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {INPUT: x})
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_newest_opset_passes_the_checker(tmp_path: Path) -> None:
    """ONNX Runtime reads a new one some releases later."""
    newest = onnx.defs.onnx_opset_version()
    proto = exported(tmp_path, "resnet18", "--opset", str(newest))
    assert [entry.version for entry in proto.opset_import] == [newest]


def test_names_are_the_specs(tmp_path: Path) -> None:
    network = load("resnet18", classes=7)
    proto = exported(tmp_path, "resnet18", "--set", "classes=7")
    names = {node.name for node in proto.graph.node}
    assert {leaf.path for leaf in network.leaves()} <= names
    assert {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer} == network.weights()
    assert ([x.name for x in proto.graph.input], [y.name for y in proto.graph.output]) == (["input"], ["fc"])


@pytest.mark.parametrize(("option", "wanted"), [((), 1), (("--batch", "4"), 4), (("--batch", "dynamic"), "batch")])
def test_the_batch_is_fixed_or_free(option: tuple[str, ...], wanted: int | str, tmp_path: Path) -> None:
    proto = exported(tmp_path, "resnet18", *option)
    axis = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert (axis.dim_value or axis.dim_param) == wanted


def swept(names: Collection[str]) -> list[Any]:
    """Every bundled network; those not named only with ``pytest --sweep tests/backends/onnx/test_onnx.py``."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.sweep) for name in NAMES]


@pytest.mark.parametrize("name", one_in(8, NAMES))
def test_every_bundled_network_has_in_onnx_the_shapes_that_the_core_says(name: str) -> None:
    """Weights are declared and not stored, so that the largest are as quick as the smallest."""
    network = load(name)
    weights = {full: np.broadcast_to(np.float32(0), shape) for full, shape in network.weights().items()}
    graph, _ = ResNet(network, weights, "float32").to_graph(network.parts)
    kinds = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    large = {full: array for full, array in graph.weights.items() if array.dtype != np.int64}
    small = [onnx.numpy_helper.from_array(a, full) for full, a in graph.weights.items() if full not in large]
    given = [onnx.helper.make_tensor_value_info(full, kinds[str(a.dtype)], a.shape) for full, a in large.items()]
    made = onnx.helper.make_graph(graph.nodes, name, [graph.value(INPUT, network.input), *given], [], small)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", graph.opset)])
    found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    shapes = {
        value.name: ["batch", *(axis.dim_value for axis in value.type.tensor_type.shape.dim[1:])]
        for value in found.graph.value_info
    }
    assert {path: shapes[path] for path in graph.shapes} == {p: ["batch", *s] for p, s in graph.shapes.items()}
    assert {leaf.path for leaf in network.leaves()} <= set(shapes)


SMALL = ["resnet18", "cifar/resnet20", "timm/test_resnet"]


@pytest.mark.parametrize("name", swept(SMALL))
def test_a_bundled_network_is_written_and_runs(name: str, tmp_path: Path) -> None:
    network, path = load(name), tmp_path / "model.onnx"
    # Near the identity: else three of BiT's networks amplify float32's rounding to 4e-5.
    random = Case(network).weights()
    weights = {full: random.pop(full).astype(np.float32) for full in list(random)}
    backend: Any = load_backend("onnx")
    files = backend.export(build(network, backend="onnx", weights=weights), path)
    x = np.random.default_rng(0).standard_normal((1, *network.input)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {INPUT: x})
    for file in files:
        file.unlink()  # hundreds of them would fill a disk
    wanted = run(build(network, backend="numpy", weights=weights, dtype="float32"), x)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_norms_are_folded_on_request(tmp_path: Path) -> None:
    network = load("cifar/resnet20")
    save_file(
        {full: a.astype(np.float32) for full, a in comparison_weights(network).items()}, tmp_path / "w.safetensors"
    )
    proto = exported(tmp_path, "cifar/resnet20", "--weights", str(tmp_path / "w.safetensors"), "--fold")
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    x = np.random.default_rng(0).standard_normal((1, *network.input)).astype(np.float32)
    wanted = run(build(network, backend="numpy", weights=comparison_weights(network), dtype="float32"), x)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {INPUT: x})[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_maps_on_the_way_are_outputs_by_their_paths(tmp_path: Path) -> None:
    network = load("cifar/resnet20", outputs=["layer1", "layer3"])
    model = build(network, backend="onnx", weights=comparison_weights(network), dtype="float64")
    x = np.random.default_rng(0).standard_normal((2, *network.input))
    wanted = run(build(network, backend="numpy", weights=comparison_weights(network)), x)
    for ours, theirs in zip(run(model, x), wanted, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()
    assert [output.name for output in model.proto().graph.output] == ["layer1", "layer3"]


def test_weights_too_large_for_protobuf_lie_in_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_spec_onnx.file.PROTOBUF_MOST", 1_000_000)
    exported(tmp_path, "resnet18", "--input", "3x40x40")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype(np.float32)
    wanted = run(build("resnet18", backend="numpy", dtype="float32"), x)
    assert np.abs(session.run(None, {INPUT: x})[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()


LAYER_NORM = "{name: n, input: [3, 8, 8], stem: {conv: {op: conv, out: 8, kernel: 3}, norm1: layer_norm}}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet18", "--opset", "12"], "error: opset is 12; it can be 13 to "),
        (["spec.yaml", "--opset", "16"], "error: norm1 is a layer_norm, which ONNX has from opset 17 on; the opset"),
        (["resnet18", "--batch", "0"], "--batch takes a number of images, or dynamic, not '0'"),
        (["resnet18", "--weights", "no.safetensors"], "error: no weights file named 'no.safetensors'"),
        (["resnet18", "-o", "no/model.onnx"], "error: no folder named 'no'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.yaml").write_text(LAYER_NORM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["resnet-spec", "export", *arguments])
    with pytest.raises(SystemExit) as done:
        __import__("resnet_spec.commands.main").cli.main()
    assert done.value.code == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_it_evaluates_and_does_not_train() -> None:
    model = build("resnet18", backend="onnx", input=(3, 40, 40))
    with pytest.raises(BackendError, match=r"^the onnx backend evaluates and does not train$"):
        load_backend("onnx").run(model, np.zeros((1, 3, 40, 40), np.float32), train=True)
