"""Test vectors: the layout, the same bits on every machine, and the comparison that names the first node at fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from resnet_spec import load
from resnet_spec.commands.main import cli
from resnet_spec.vectors.index import VectorsError, read_index
from resnet_spec.vectors.nodes import list_nodes
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.frameworks import required
from shared.paths import ROOT

required("onnx")
onnx: Any = pytest.importorskip("onnx")
onnxruntime: Any = pytest.importorskip("onnxruntime")

sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples")]
import check_vectors  # noqa: E402
from vectors import LARGER, measure, smallest_networks  # noqa: E402


def make(folder: Path, spec: str = "resnet18", *options: str) -> Path:
    """Write test vectors into a folder; return it."""
    result = CliRunner().invoke(cli, ["vectors", spec, "-o", str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


def compare(folder: Path, dumps: Path, *options: str) -> tuple[int, str]:
    """Return the exit status of the comparison, and what it prints."""
    result = CliRunner().invoke(cli, ["vectors", "compare", str(folder), str(dumps), *options])
    return result.exit_code, result.output + (f"{result.exception}" if result.exit_code == 1 else "")


def dump(folder: Path, dumps: Path, dtype: str = "float32", skip: str = "") -> Path:
    """Copy the references of all nodes as the dumps of a runtime that computes them."""
    for entry in read_index(folder).entries:
        if entry.kind == "node" and entry.name != skip:
            path = dumps / f"{entry.name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.load(folder / entry.files[dtype]))
    return dumps


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("vectors") / "v", "resnet18", "--narrow", "8")


def test_the_layout_is_that_of_onnx_backend_tests(vectors: Path) -> None:
    data = vectors / "test_data_set_0"
    assert sorted(path.name for path in data.iterdir()) == ["input_0.pb", "output_0.pb"]
    x, y = (onnx.TensorProto.FromString((data / f"{name}_0.pb").read_bytes()) for name in ("input", "output"))
    session = onnxruntime.InferenceSession(vectors / "model.onnx", providers=["CPUExecutionProvider"])
    (actual,) = session.run([y.name], {x.name: onnx.numpy_helper.to_array(x)})
    expected = onnx.numpy_helper.to_array(y)
    assert abs(actual - expected).max() <= 1e-5 * abs(expected).max()


def test_every_value_of_the_model_that_a_part_gives_is_a_node(vectors: Path) -> None:
    model = onnx.load(vectors / "model.onnx")
    values = {output for node in model.graph.node for output in node.output}
    names = [entry.name for entry in read_index(vectors).entries]
    assert set(names) <= values
    assert {leaf.path for leaf in load(vectors / "network.yaml").leaves()} <= set(names)
    assert {name for name in values if name.endswith("/add")} <= set(names)


@pytest.mark.parametrize("spec", [EVERY_OPERATION, MODERN_OPERATIONS], ids=["every", "modern"])
def test_every_node_is_that_of_onnx_runtime(spec: str, tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(spec)
    folder = make(tmp_path / "v", str(tmp_path / "n.yaml"), "--size", "39x33" if "39, 33" in spec else "26x34")
    images = check_vectors.read_tensor(folder / "test_data_set_0" / "input_0.pb")
    check_vectors.dump(check_vectors.run_onnxruntime(folder, images), tmp_path / "d")
    assert compare(folder, tmp_path / "d")[0] == 0


def test_an_index_says_what_made_it(vectors: Path) -> None:
    data = json.loads((vectors / "index.json").read_text())
    made_by = data["made_by"]
    assert (made_by["spec"], made_by["narrow"], made_by["seed"], made_by["input"]) == ("resnet18", 8, 0, [3, 32, 24])
    assert {"resnet-spec", "numpy"} <= set(made_by["versions"])
    assert made_by["fingerprint"] == load(vectors / "network.yaml").fingerprint
    first = data["arrays"][0]
    assert (first["name"], first["operation"], first["input_shapes"]) == ("conv1", "conv", [[1, 3, 32, 24]])
    assert first["tolerance"]["float64"] == 1e-12
    assert 1e-5 <= first["tolerance"]["float32"] <= 1e-3


PROGRAM = """
import sys, hashlib, numpy as np
from resnet_spec import build, load, loads
from resnet_spec.backend import load_backend
from resnet_spec.vectors.write import Request, _run_nodes
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
digest = hashlib.sha256()
for spec in (EVERY_OPERATION, MODERN_OPERATIONS):
    request = Request(loads(spec))
    for dtype in ("float64", "float32"):
        images = request.case.images()[:1]
        values = _run_nodes(request.network, request.case.weights("float32"), images, dtype)
        for name in sorted(values):
            digest.update(np.ascontiguousarray(values[name]).tobytes())
print(digest.hexdigest())
"""

DIGEST = "daa22e2f195d347d70f38296778a3c9c6573dc167822e62db2e8d030a87857a2"
"""The bits of every node of two networks with all operations, in float64 and float32."""


@pytest.mark.parametrize(
    "processor",
    [
        {},
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3 X86_V3 X86_V4"},
    ],
    ids=["this", "old matrix products", "no vector instructions"],
)
def test_every_machine_computes_the_same_bits(processor: Mapping[str, str]) -> None:
    paths = [str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, **processor, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == DIGEST, done.stderr


def test_what_is_written_twice_is_equal(vectors: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "v", "resnet18", "--narrow", "8")
    for path in vectors.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(vectors)).read_bytes(), path


def test_equal_dumps_are_the_same(vectors: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "float64"):
        assert compare(vectors, dump(vectors, tmp_path / dtype, dtype))[0] == 0


def test_the_first_node_that_differs_is_named(vectors: Path, tmp_path: Path) -> None:
    dumps = dump(vectors, tmp_path / "d")
    for name in ("layer3.0.conv1", "layer2.0/add"):
        path = dumps / f"{name}.npy"
        np.save(path, np.load(path) * np.float32(1.001))
    status, printed = compare(vectors, dumps)
    assert status == 1
    assert "the first that differs: layer2.0/add (add) is off by 1.0e-03 of its largest value, and 1.0e-05 passes" in (
        printed
    )


def test_a_node_of_another_shape_or_not_finite_differs(vectors: Path, tmp_path: Path) -> None:
    dumps = dump(vectors, tmp_path / "d")
    np.save(dumps / "bn1.npy", np.load(dumps / "bn1.npy")[:, :1])
    assert "bn1 (batch_norm) has shape (1, 1, 16, 12), not (1, 2, 16, 12)" in compare(vectors, dumps)[1]
    np.save(dumps / "conv1.npy", np.load(dumps / "conv1.npy") * np.float32(np.nan))
    assert "conv1 (conv) holds NaN" in compare(vectors, dumps)[1]


def test_a_node_that_was_not_dumped_leaves_the_result_unknown(vectors: Path, tmp_path: Path) -> None:
    status, printed = compare(vectors, dump(vectors, tmp_path / "d", skip="relu"))
    assert status == 3
    assert "1 of 68 arrays were not dumped" in printed


def test_other_types_need_a_tolerance(vectors: Path, tmp_path: Path) -> None:
    dumps = dump(vectors, tmp_path / "d")
    for path in dumps.rglob("*.npy"):
        np.save(path, np.load(path).astype(np.float16))
    with pytest.raises(VectorsError, match=r"bn1.npy is float16|conv1.npy is float16"):
        CliRunner().invoke(cli, ["vectors", "compare", str(vectors), str(dumps)], catch_exceptions=False)
    assert compare(vectors, dumps, "--tolerance", "1e-3")[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("convv1.npy", b"", "convv1.npy is the dump of no node; did you mean 'conv1'?"),
        ("conv1.npy", b"no array", "conv1.npy is no array in NumPy's format: "),
        ("readme.txt", b"", "no dumps in "),
    ],
)
def test_what_cannot_be_compared_is_an_error(
    name: str, content: bytes, message: str, vectors: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VectorsError) as caught:
        CliRunner().invoke(cli, ["vectors", "compare", str(vectors), str(tmp_path)], catch_exceptions=False)
    assert message in str(caught.value)


def test_a_folder_without_an_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VectorsError, match=r"^no test vectors in .*, which has no index.json"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text('{"version": 1, "made_by": {}, "arrays": [{"name": "a"}]}')
    with pytest.raises(VectorsError, match=r"index.json is damaged: it lacks 'kind'"):
        read_index(tmp_path)


def test_a_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine").write_text("")
    with pytest.raises(FileExistsError, match="a folder is never overwritten"):
        make(tmp_path / "v")
    assert [path.name for path in (tmp_path / "v").iterdir()] == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.share(2)
def test_training_holds_gradients_and_a_step(backend: str, tmp_path: Path) -> None:
    required(backend)
    spec = tmp_path / "n.yaml"
    spec.write_text(
        "{name: n, input: [3, 12, 12], stem: {conv: {op: conv, out: 4, kernel: 3}, norm: norm, act: tanh},"
        " head: {pool: global_avg_pool, fc: {op: linear, out: 5}}}"
    )
    folder = make(tmp_path / "v", str(spec), "--level", "training", "--size", "12x12", "--backend", backend)
    index = read_index(folder)
    assert index.made_by["gradients"]["backend"] == backend
    arrays = {(entry.kind, entry.name): np.load(folder / entry.files["float64"]) for entry in index.entries}
    weights = load(spec).weights()
    assert {name for kind, name in arrays if kind == "gradient"} == {
        "loss",
        "input",
        *(name for name in weights if "running" not in name),
    }
    assert {name for kind, name in arrays if kind == "statistic"} == {"norm.running_mean", "norm.running_var"}
    assert len({kind for kind, _ in arrays}) == 4
    path = tmp_path / "d" / "gradient" / "fc.weight.npy"
    path.parent.mkdir(parents=True)
    np.save(path, arrays["gradient", "fc.weight"] + 1e-6)
    assert "the first that differs: fc.weight (gradient) is off by" in compare(folder, tmp_path / "d")[1]


def test_nodes_follow_the_order_of_execution() -> None:
    names = [node.name for node in list_nodes(load("resnet18"))]
    assert names.index("layer2.0/add") == names.index("layer2.0.relu2") - 1
    assert names.index("layer2.0/add") > names.index("layer2.0.downsample.1")


ALWAYS = {"resnet18", "timm/densenet121", "torchvision/vgg11"}
"""The networks whose size and time are measured each time; one of each family is with ``pytest --sweep``."""


MEASURED = sorted({*ALWAYS, *smallest_networks().values()} - {*LARGER})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.sweep) for name in MEASURED]
)
@pytest.mark.share(2)
def test_a_family_is_small_and_quick(name: str) -> None:
    assert measure(name).passes
