"""ONNX and Keras files that attack their reader are refused, with the file's name or the call, and nothing is run."""

from __future__ import annotations

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import ImportRefused, from_keras, from_onnx
from shared.frameworks import required
from shared.keras_files import small_model, write_keras_file

required("onnx")


from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

# -- ONNX --------------------------------------------------------------------------------------------------------

RELU = helper.make_node("Relu", ["x"], ["y"])


def make(nodes: list[Any], tensors: list[Any] | None = None, shape: list[int] | None = None) -> ModelProto:
    """Return a model that reads ``x`` and returns ``y``."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or [1, 3, 8, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(nodes, "graph", [value], [output], tensors or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def enormous_constant() -> ModelProto:
    shape = numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    return make(nodes, [shape])


def doubled_constant() -> ModelProto:
    names = [f"c{index}" for index in range(41)]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in itertools.pairwise(names)]
    first = numpy_helper.from_array(np.zeros(2, np.float32), "c0")
    return make([*nodes, helper.make_node("Add", ["x", names[-1]], ["y"])], [first])


def outer_product() -> ModelProto:
    row = numpy_helper.from_array(np.zeros((1, 2**15), np.float32), "row")
    column = numpy_helper.from_array(np.zeros((2**15, 1), np.float32), "column")
    return make(
        [helper.make_node("Add", ["row", "column"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])], [row, column]
    )


def endless_loop() -> ModelProto:
    truth = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, []), truth]
    body = helper.make_graph([helper.make_node("Identity", ["again"], ["b"])], "body", inputs, [
        helper.make_tensor_value_info("b", TensorProto.BOOL, []),
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
    ])  # fmt: skip
    tensors = [
        numpy_helper.from_array(np.array(2**62, np.int64), "count"),
        numpy_helper.from_array(np.array(True), "start"),
    ]
    loop = helper.make_node("Loop", ["count", "start"], ["c"], body=body)
    cast = helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT)
    return make([loop, cast, helper.make_node("Add", ["x", "d"], ["y"])], tensors)


def random_constant() -> ModelProto:
    noise = helper.make_node("RandomNormal", [], ["c"], shape=[2**15, 2**15])
    return make([noise, helper.make_node("Add", ["x", "c"], ["y"])])


def array_that_is_not_there() -> ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**20, 3, 2**10, 2**10], raw_data=b"1234")
    return make([helper.make_node("Conv", ["x", "w"], ["y"])], [tensor])


def large_images() -> ModelProto:
    return make([RELU], shape=[1, 3, 2**20, 2**20])


def large_map() -> ModelProto:
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 2**20, 2**20], np.int64), "pads")
    return make([helper.make_node("Pad", ["x", "pads"], ["y"])], [pads])


def circle() -> ModelProto:
    return make([helper.make_node("Add", ["x", "z"], ["y"]), helper.make_node("Relu", ["y"], ["z"])])


def missing_attribute() -> ModelProto:
    return make([helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("Relu", ["t"], ["y"])])


def own_functions() -> ModelProto:
    model = make([helper.make_node("Mine", ["x"], ["y"], domain="mine")])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(
        helper.make_function("mine", "Mine", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                             [helper.make_opsetid("", 17)])
    )  # fmt: skip
    return model


def other_domain() -> ModelProto:
    model = make([helper.make_node("Relu", ["x"], ["y"], domain="com.example")])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def many_nodes() -> ModelProto:
    names = ["x", *(f"n{index}" for index in range(20_000)), "y"]
    return make([helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)])


ATTACKS = {
    enormous_constant: "very large",
    doubled_constant: "very large",
    outer_product: "very large",
    endless_loop: "a loop, a branch or at random",
    random_constant: "a loop, a branch or at random",
    array_that_is_not_there: "is no ONNX model that can be read",
    large_images: "more than",
    large_map: "more than",
    circle: "is no ONNX model that can be read",
    missing_attribute: "mixes the images",
    own_functions: "defines functions",
    other_domain: "no operation of the language is this one",
    many_nodes: "at most 20,000",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_onnx_file_that_attacks_is_refused(attack: Any, tmp_path: Path) -> None:
    path = tmp_path / "attack.onnx"
    path.write_bytes(attack().SerializeToString())
    with pytest.raises(ImportRefused, match=ATTACKS[attack]):
        from_onnx(path)


@pytest.mark.parametrize("place", ["../secret", "link", "/etc/hostname", "absent"])
def test_weights_elsewhere_are_not_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1" * 4 * 81)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 3, 3, 3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    model = make([helper.make_node("Conv", ["x", "w"], ["y"])], [tensor])
    (folder / "attack.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ImportRefused, match="is no ONNX model that can be read"):
        from_onnx(folder / "attack.onnx")


def test_what_no_output_depends_on_is_dropped(tmp_path: Path) -> None:
    model = endless_loop()
    model.graph.node[-1].input[1] = "x"
    (tmp_path / "loop.onnx").write_bytes(model.SerializeToString())
    imported = from_onnx(tmp_path / "loop.onnx")
    assert imported.is_proven
    assert imported.network.output_shape == (3, 8, 8)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_is_refused(share: float, tmp_path: Path) -> None:
    kernel = numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w")
    data = make([helper.make_node("Conv", ["x", "w"], ["y"])], [kernel]).SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImportRefused, match="is no ONNX model that can be read"):
        from_onnx(tmp_path / "cut.onnx")


# -- Keras -------------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:
    config, _ = small_model(**changes)
    return config


def loops() -> dict[str, Any]:
    return changed(stem_conv={"inbound_nodes": [[["stem_relu", 0, 0, {}]]]})


CONFIGURATIONS: dict[str, tuple[Any, str]] = {
    "no mapping": ([1, 2], "no mapping"),
    "a list of numbers": ({"class_name": "Functional", "config": {"layers": [1, 2]}}, "not as Keras writes it"),
    "layers that are no list": ({"class_name": "Functional", "config": {"layers": 3}}, "not as Keras writes it"),
    "a class of its own": ({"class_name": "os.system", "config": {"layers": []}}, "only functional and sequential"),
    "a loop": (loops(), "which no layer before it gives"),
    "a nested model": (changed(stem_relu={"class_name": "Functional"}), "no operation of the language"),
    "code in an activation": (
        changed(stem_relu={"config": {"name": "stem_relu", "activation": {"class_name": "function", "config": "os"}}}),
        "the activation os",
    ),
    "a huge map": (
        changed(pad={"config": {"name": "pad", "padding": [[2**20, 2**20], [2**20, 2**20]]}}),
        "more than",
    ),
    "words for numbers": (changed(pool={"config": {"name": "pool", "pool_size": "all"}}), "not known here"),
    "no weights": (changed(pool={"class_name": "Conv2D"}), "its weights are not in the file"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_keras_file_that_attacks_is_refused(name: str, tmp_path: Path) -> None:
    config, message = CONFIGURATIONS[name]
    _, weights = small_model()
    path = write_keras_file(tmp_path / "attack.h5", config, weights)
    with pytest.raises(ImportRefused, match=message):
        from_keras(path)


def test_a_deep_configuration_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    path = write_keras_file(tmp_path / "deep.keras", *small_model())
    deep = tmp_path / "deeper.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(deep, "w") as new:
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
        new.writestr("config.json", "[" * 200_000 + "]" * 200_000)
    with pytest.raises(ImportRefused, match=r"deeper\.keras is no Keras file that can be read"):
        from_keras(deep)


def test_a_link_to_another_file_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["w"] = np.ones(3)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(changed())
        file.create_group("model_weights")["stem_conv"] = h5py.ExternalLink("secret.h5", "/")
    with pytest.raises(ImportRefused, match="link"):
        from_keras(tmp_path / "link.h5")


def test_a_layer_of_an_archive_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(changed())
        shape = (2**16, 2**16)
        file.create_dataset("model_weights/stem_conv/0", shape, "f4", chunks=(2**12, 2**12), compression="gzip")
    with pytest.raises(ImportRefused, match=r"bomb\.h5"):
        from_keras(tmp_path / "bomb.h5")
