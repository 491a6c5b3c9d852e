"""Networks as ONNX models: what they compute, what the files contain, and errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from resnet_spec import BackendError, Network, build, load, loads, run
from resnet_spec.backend import ExportOptions, load_backend
from resnet_spec.commands.main import cli, main
from resnet_spec.library import bundled
from resnet_spec.parity.case import Case
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import relative_difference
from shared.every_operation import OPERATIONS
from shared.frameworks import REQUIRED
from shared.sampling import one_in

try:
    load_backend("onnx")
except BackendError as error:
    if "onnx" in REQUIRED:
        raise
    pytest.skip(str(error), allow_module_level=True)

import onnx
import onnxruntime

from resnet_spec_onnx.file import export as export_model
from resnet_spec_onnx.graph import INPUT
from resnet_spec_onnx.modules import ResNet

GATES = {"float64": 1e-12, "float32": 1e-5}
NAMES = bundled.names()


@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.share(2)
def test_an_operation_computes_what_the_reference_does(op: str, dtype: str) -> None:
    network = loads(f"{{name: one, input: [4, 9, 12], stem: {{first: norm, x: {op}}}}}")
    x = 3 * np.random.default_rng(0).standard_normal((2, *network.input))
    expected, actual = (
        run(build(network, backend=name, weights=comparison_weights(network), dtype=dtype), x.astype(dtype))
        for name in ("numpy", "onnx")
    )
    assert relative_difference(actual, expected) <= GATES[dtype]


@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
def test_zeros_padded_before_a_pooling_stay_zeros(pool: str, dtype: str) -> None:
    """On negative images they are the maxima of their windows. ONNX Runtime would replace them by minus infinity."""
    stem = f"{{pad: {{op: zero_pad, top: 1, left: 1, bottom: 1}}, pool: {{op: {pool}, kernel: 3, stride: 2}}}}"
    network = loads(f"{{name: padded, input: [2, 9, 12], stem: {{conv: {{op: conv, out: 2, kernel: 1}}, p: {stem}}}}}")
    weights = {"conv.weight": np.eye(2)[:, :, None, None]}
    x = -1 - np.random.default_rng(0).random((2, *network.input))
    expected, actual = (
        run(build(network, backend=name, weights=weights, dtype=dtype), x.astype(dtype)) for name in ("numpy", "onnx")
    )
    assert relative_difference(actual, expected) <= GATES[dtype]


@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("kernel", [1, 2])
def test_a_padding_may_be_as_large_as_the_kernel_of_the_pooling_after_it(kernel: int, pool: str, dtype: str) -> None:
    stem = f"{{pad: {{op: zero_pad, top: 2, left: 2, bottom: 1}}, pool: {{op: {pool}, kernel: {kernel}, stride: 1}}}}"
    network = loads(f"{{name: padded, input: [2, 9, 12], stem: {{conv: {{op: conv, out: 2, kernel: 1}}, p: {stem}}}}}")
    weights = comparison_weights(network)
    x = np.random.default_rng(0).standard_normal((2, *network.input)).astype(dtype)
    expected, actual = (
        run(build(network, backend=name, weights=weights, dtype=dtype), x) for name in ("numpy", "onnx")
    )
    assert relative_difference(actual, expected) <= GATES[dtype]


def export(folder: Path, *arguments: str) -> Any:
    """Run the command, and return the model that it writes to ``model.onnx``."""
    path = folder / "model.onnx"
    result = CliRunner().invoke(cli, ["export", *arguments, "-o", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return onnx.load(path)


def run_file(folder: Path, x: Array) -> Array:
    """Run ``model.onnx`` in ONNX Runtime."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {INPUT: x})
    return np.asarray(output)


def draw_images(network: Network, batch: int = 1) -> Array:
    return np.random.default_rng(0).standard_normal((batch, *network.input)).astype(np.float32)


def save_weights(network: Network, path: Path) -> None:
    weights = comparison_weights(network)
    save_file({name: array.astype(np.float32) for name, array in weights.items()}, path)


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.share(2)
def test_a_file_computes_the_same_in_every_opset(opset: int, tmp_path: Path) -> None:
    network = load("preact_resnet18_cifar", input=(3, 40, 56), classes=7)
    save_weights(network, tmp_path / "w.safetensors")
    options = ("--input", "3x40x56", "--set", "classes=7", "--opset", str(opset), "--batch", "dynamic")
    proto = export(tmp_path, "preact_resnet18_cifar", "--weights", str(tmp_path / "w.safetensors"), *options)
    assert [entry.version for entry in proto.opset_import] == [opset]
    x = draw_images(network, batch=2)
    expected = run(build(network, backend="numpy", weights=comparison_weights(network), dtype="float32"), x)
    assert relative_difference(run_file(tmp_path, x), expected) <= 1e-5


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    path.chmod(0o600)
    export(tmp_path, "preact_resnet18_cifar")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_newest_opset_passes_the_checker(tmp_path: Path) -> None:
    """ONNX's own evaluator runs it, since ONNX Runtime supports a new opset only some releases later."""
    newest = onnx.defs.onnx_opset_version()
    proto = export(tmp_path, "resnet18", "--opset", str(newest))
    assert [entry.version for entry in proto.opset_import] == [newest]


def test_names_are_those_of_the_spec(tmp_path: Path) -> None:
    network = load("resnet18", classes=7)
    proto = export(tmp_path, "resnet18", "--set", "classes=7")
    names = {node.name for node in proto.graph.node}
    assert {leaf.path for leaf in network.leaves()} <= names
    assert {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer} == network.weights()
    assert ([x.name for x in proto.graph.input], [y.name for y in proto.graph.output]) == (["input"], ["fc"])


@pytest.mark.parametrize(("option", "expected"), [((), 1), (("--batch", "4"), 4), (("--batch", "dynamic"), "batch")])
def test_the_batch_is_fixed_or_dynamic(option: tuple[str, ...], expected: int | str, tmp_path: Path) -> None:
    proto = export(tmp_path, "resnet18", *option)
    axis = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert (axis.dim_value or axis.dim_param) == expected


@pytest.mark.parametrize("name", one_in(25, NAMES))
@pytest.mark.share(3)
def test_onnx_infers_the_shapes_that_the_core_inferred(name: str) -> None:
    """Weights are inputs of the graph and not stored, so that large networks are as quick as small ones."""
    network = load(name)
    weights = {key: np.broadcast_to(np.float32(0), shape) for key, shape in network.weights().items()}
    graph, _ = ResNet(network, weights, "float32").to_graph(network.parts)
    floats = {key: array for key, array in graph.weights.items() if array.dtype != np.int64}
    integers = [onnx.numpy_helper.from_array(a, key) for key, a in graph.weights.items() if key not in floats]
    inputs = [onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, a.shape) for key, a in floats.items()]
    images = graph.make_value_info(INPUT, network.input)
    graph_proto = onnx.helper.make_graph(graph.nodes, name, [images, *inputs], [], integers)
    model = onnx.helper.make_model(graph_proto, opset_imports=[onnx.helper.make_opsetid("", graph.opset)])
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    shapes = {
        value.name: ["batch", *(axis.dim_value for axis in value.type.tensor_type.shape.dim[1:])]
        for value in inferred.graph.value_info
    }
    assert {path: shapes[path] for path in graph.shapes} == {p: ["batch", *s] for p, s in graph.shapes.items()}
    assert {leaf.path for leaf in network.leaves()} <= set(shapes)


ALWAYS = {"resnet18", "cifar/resnet20", "timm/test_resnet"}
"""The networks that are written and run each time; the others run with ``pytest --sweep``."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.sweep) for name in NAMES]
)
def test_a_bundled_network_is_written_and_runs(name: str, tmp_path: Path) -> None:
    network = load(name)
    # Weights of a parity case leave blocks near the identity. With others, three of BiT's networks amplify the
    # rounding of float32 to 4e-5.
    random = Case(network).weights()
    weights = {key: random.pop(key).astype(np.float32) for key in list(random)}
    backend: Any = load_backend("onnx")
    files = backend.export(
        build(network, backend="onnx", weights=weights), tmp_path / "model.onnx", ExportOptions("onnx")
    )
    x = draw_images(network)
    actual = run_file(tmp_path, x)
    for file in files:
        file.unlink()  # hundreds of them would fill a disk
    expected = run(build(network, backend="numpy", weights=weights, dtype="float32"), x)
    assert relative_difference(actual, expected) <= 1e-5


def test_norms_are_folded_with_the_option_fold(tmp_path: Path) -> None:
    network = load("cifar/resnet20")
    save_weights(network, tmp_path / "w.safetensors")
    proto = export(tmp_path, "cifar/resnet20", "--weights", str(tmp_path / "w.safetensors"), "--fold")
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    x = draw_images(network)
    expected = run(build(network, backend="numpy", weights=comparison_weights(network), dtype="float32"), x)
    assert relative_difference(run_file(tmp_path, x), expected) <= 1e-5


def test_feature_outputs_have_their_paths_as_names() -> None:
    network = load("cifar/resnet20", outputs=["layer1", "layer3"])
    model = build(network, backend="onnx", weights=comparison_weights(network), dtype="float64")
    x = np.random.default_rng(0).standard_normal((2, *network.input))
    reference = build(network, backend="numpy", weights=comparison_weights(network))
    for actual, expected in zip(run(model, x), run(reference, x), strict=True):
        assert relative_difference(actual, expected) <= 1e-12
    assert [output.name for output in model.to_proto().graph.output] == ["layer1", "layer3"]


def test_weights_too_large_for_protobuf_are_in_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_spec_onnx.file.MAX_PROTOBUF_BYTES", 1_000_000)
    export(tmp_path, "resnet18", "--input", "3x40x40")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype(np.float32)
    expected = run(build("resnet18", backend="numpy", dtype="float32"), x)
    assert relative_difference(run_file(tmp_path, x), expected) <= 1e-5


LAYER_NORM = "{name: n, input: [3, 8, 8], stem: {conv: {op: conv, out: 8, kernel: 3}, norm1: layer_norm}}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18", "--opset", "12"], "error: opset is 12; it can be 13 to "),
        (
            ["spec.yaml", "--opset", "16"],
            "error: norm1 is a layer_norm, which needs opset 17 or later; the requested opset is 16",
        ),
        (["resnet18", "--batch", "0"], "--batch takes a number of images or dynamic, not '0'"),
        (["resnet18", "--weights", "no.safetensors"], "error: no weights file named 'no.safetensors'"),
        (["resnet18", "-o", "no/model.onnx"], "error: no folder named 'no'"),
    ],
)
def test_a_failing_export_reports_the_error_and_writes_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "spec.yaml").write_text(LAYER_NORM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["resnet-spec", "export", *arguments])
    with pytest.raises(SystemExit) as error:
        main()
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize(("part", "shape"), [("pool", (3, 13, 10)), ("layer1", (3, 13, 10)), ("fc", (5,))])
def test_a_part_runs_on_another_size(part: str, shape: tuple[int, ...]) -> None:
    network = loads(
        """
        name: n
        input: [3, 24, 24]
        stem: {pool: {op: max_pool, kernel: 3, stride: 2, padding: 1}}
        stages: {layer1: {block: basic, depth: 2, out: 5, stride: 2}}
        head: {gap: global_avg_pool, fc: {op: linear, out: 4}}
        """
    )
    x = np.random.default_rng(0).standard_normal((2, *shape))
    actual, expected = (
        load_backend(name).run(build(network, backend=name, dtype="float32"), x, part=part)[""]
        for name in ("onnx", "numpy")
    )
    assert relative_difference(actual, expected) <= 1e-5


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_can_be_copied_after_a_run(make_copy: Callable[[Any], Any]) -> None:
    network = loads(LAYER_NORM)
    model = build(network, backend="onnx")
    x = draw_images(network)
    expected = run(model, x)
    twin = make_copy(model)
    load_backend("onnx").load(model, {name: array * 0 for name, array in model.weights.items()})
    assert np.array_equal(run(twin, x), expected)
    assert not run(model, x).any()


GATES_OF_EVERY_SHAPE = """
name: gated
input: [3, 8, 6]
blocks:
  by_map: {combine: multiply, branch: {squash: sigmoid}}
  by_pixel: {combine: multiply, branch: {pool: {op: global_avg_pool, keepdims: true}}}
  by_channel: {combine: multiply, branch: {pool: global_avg_pool, squash: sigmoid}, after: {act: relu}}
  by_itself: {combine: multiply, branch: {}}
  of_vectors: {combine: multiply, branch: {squash: tanh}}
stem: {conv: {op: conv, out: 3, kernel: 1}, a: by_map, b: by_pixel, c: by_channel, pool: global_avg_pool, d: of_vectors}
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gate_has_any_shape_that_the_core_accepts(dtype: str, tmp_path: Path) -> None:
    (tmp_path / "gated.yaml").write_text(GATES_OF_EVERY_SHAPE)
    export(tmp_path, str(tmp_path / "gated.yaml"), "--dtype", dtype)
    network = loads(GATES_OF_EVERY_SHAPE)
    x = draw_images(network)
    expected, actual = (run(build(network, backend=name, dtype=dtype), x) for name in ("numpy", "onnx"))
    assert relative_difference(actual, expected) <= 1e-5


def test_a_file_that_cannot_be_evaluated_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def add_reshape(part: object, branch: str, shortcut: str, graph: Any) -> str:
        return str(graph.add_reshape(shortcut, [7, -1], "seven"))

    monkeypatch.setattr("resnet_spec_onnx.modules._add_combine", add_reshape)
    monkeypatch.setattr("onnx.checker.check_model", lambda *_, **__: None)  # it sees less than an evaluation
    monkeypatch.chdir(tmp_path)
    network = loads("{name: n, input: [3, 8, 8], stages: {a: {block: basic, depth: 1, out: 4}}}")
    model = build(network, backend="onnx")
    with pytest.raises(BackendError, match=r"^the ONNX file cannot be evaluated, so it is not written: "):
        export_model(model, tmp_path / "model.onnx", ExportOptions("onnx", None))
    assert not [*tmp_path.iterdir()]


def test_threads_share_one_model() -> None:
    network = loads(LAYER_NORM)
    model = build(network, backend="onnx")
    images = [np.ones((1, 3, size, size), np.float32) for size in (8, 9, 10)] * 4
    with ThreadPoolExecutor(4) as pool:
        assert [y.shape[2] for y in pool.map(lambda x: run(model, x), images)] == [6, 7, 8] * 4


def test_training_is_an_error() -> None:
    model = build("resnet18", backend="onnx", input=(3, 40, 40))
    with pytest.raises(BackendError, match=r"^the onnx backend only evaluates: it has no training mode$"):
        load_backend("onnx").run(model, np.zeros((1, 3, 40, 40), np.float32), train=True)
