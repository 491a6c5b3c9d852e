"""Small files of the conventions in which weights are published or stored are read bit for bit, or refused in words."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resnet_spec import build, convert, identify, load, run
from resnet_spec.checkpoints.formats import registry
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array, WeightsError
from shared.frameworks import required
from shared.paths import DATA, SHARED

CASES: list[dict[str, str]] = yaml.safe_load((DATA / "wild_checkpoints.yaml").read_text(encoding="utf-8"))
FOLDER = SHARED / "cases"
CHECKPOINTS = SHARED / "data" / "checkpoints"
CIFAR = {
    "resnet20-12fca82f.th": "cifar/resnet20",
    "resnet32-d509ac18.th": "cifar/resnet32",
    "resnet44-014dd654.th": "cifar/resnet44",
    "resnet56-4bfd9763.th": "cifar/resnet56",
}

needs_cases = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the files of all conventions are not in {FOLDER}")
needs_checkpoints = pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason=f"no checkpoints are in {CHECKPOINTS}")


def case_id(case: Mapping[str, str]) -> str:
    return " ".join(case[key] for key in ("file", "outputs", "under") if key in case)


def load_case(case: Mapping[str, str], folder: Path) -> Network:
    """Load the network of a case; one without statistics is written to a folder first."""
    path = FOLDER / "_truth" / f"{case.get('spec', 'small50')}.yaml"
    if case.get("expect") == "without statistics":
        text = path.read_text(encoding="utf-8").replace("classes: 10", "classes: 20")
        path = folder / "spec.yaml"
        path.write_text(f"{text}layers: {{norm: {{op: group_norm, groups: 4}}}}\n", encoding="utf-8")
    return load(path, outputs=[case["outputs"]] if "outputs" in case else None)


def make_truth(case: Mapping[str, str], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays that must come out for some of the weights."""
    with np.load(FOLDER / "_truth" / f"{case.get('spec', 'small50')}.npz") as file:
        truth = {name: file[name] for name in arrays}
    if case.get("expect") == "frozen":
        truth |= {name: np.zeros_like(array) for name, array in truth.items() if name.endswith("running_mean")}
        truth |= {name: np.full_like(a, 1 - 1e-5) for name, a in truth.items() if name.endswith("running_var")}
    if case.get("expect") == "pruned":
        name = "layer1.0.conv2.weight"
        tensors = registry.read(FOLDER / case["file"]).tensors
        truth[name] = tensors[f"{name}_orig"].read() * tensors[f"{name}_mask"].read()
    return truth


@needs_cases
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_convention_is_read_bit_for_bit_or_refused_in_words(case: dict[str, str], tmp_path: Path) -> None:
    if "65_keras" in case["file"] and "npz" not in case["file"]:
        pytest.importorskip("h5py")
    if Path(case["file"]).suffix == "" and case["file"].startswith(("05", "29")):
        pytest.importorskip("tensorstore")
    network, target = load_case(case, tmp_path), tmp_path / "w.npz"
    if "refused" in case:
        with pytest.raises(ValueError) as error:
            convert(FOLDER / case["file"], target, network, under=case.get("under"))
        lines = str(error.value).splitlines()
        assert case["refused"] in lines[0]
        assert len(lines) <= 22
        assert not target.exists()
        return
    notes = convert(FOLDER / case["file"], target, network, under=case.get("under")).notes
    assert any(case["read"] in note for note in notes) or not case["read"]
    with np.load(target) as file:
        arrays = dict(file)
    assert arrays.keys() == network.weights().keys()
    truth = make_truth(case, arrays)
    assert [name for name, array in arrays.items() if array.tobytes() != truth[name].tobytes()] == []


@needs_cases
@pytest.mark.parametrize("name", ["08_moco_v1/moco_v1.pth.tar", "72_under_misspelt/w.pth"])
def test_model_is_built_from_the_place_that_is_named(name: str) -> None:
    under = "state_dict.module.encoder_q" if "moco" in name else "state_dict_ema"
    with pytest.raises(WeightsError, match=f"\n  {under}: 117 of 117 weights fit"):
        build(FOLDER / "_truth/small50.yaml", backend="numpy", weights=FOLDER / name)
    build(FOLDER / "_truth/small50.yaml", backend="numpy", weights=FOLDER / name, under=under)


@needs_cases
def test_every_folder_of_checkpoints_has_a_case() -> None:
    """The other folders are about images, tracing, export and specs, and what holds no residual network."""
    others = {"02_run_images", "07_torch_fx", "59_torch_whole_model", "60_torch_jit", "74_onnx_dynamic_hw"}
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name[0].isdecimal()}
    specs = {folder for folder in folders if "_spec_" in folder}
    assert folders - {case["file"].partition("/")[0] for case in CASES} == others | specs


@needs_checkpoints
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.sweep if number else ()) for number, name in enumerate(CIFAR)]
)
def test_published_checkpoint_is_identified_and_computes_the_same_everywhere(name: str, tmp_path: Path) -> None:
    best, *others = identify(CHECKPOINTS / name)
    assert (best.network, best.how) == (CIFAR[name], "exact")
    assert all(other.how == "near" for other in others)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    expected = run(build(best.network, backend="numpy", weights=CHECKPOINTS / name), images)
    for suffix in (".safetensors", ".pdparams", ".npz", ".pth"):
        convert(CHECKPOINTS / name, tmp_path / f"w{suffix}", best.network)
    for backend, suffix in {"torch": ".pth", "paddle": ".pdparams", "flax": ".npz", "onnx": ".safetensors"}.items():
        required(backend)
        model = build(best.network, backend=backend, weights=tmp_path / f"w{suffix}", dtype="float64")
        assert np.abs(run(model, images) - expected).max() < 1e-9


# -- files that the libraries write themselves ------------------------------------------------------------------------


def fill(module: Any) -> dict[str, Array]:
    """Set every array of a PyTorch module to random numbers; return them by name."""
    import torch

    arrays = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
            tensor.copy_(torch.from_numpy(np.random.default_rng(seed).random(tuple(tensor.shape), np.float32)))
            arrays[name] = tensor.numpy().copy()
    return arrays


def read_arrays(path: Path) -> dict[str, Array]:
    return {name: tensor.read() for name, tensor in registry.read(path).tensors.items() if tensor.dtype.kind == "f"}


def assert_equal(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, array in found.items() if array.tobytes() != expected[name].tobytes()] == []


@pytest.mark.parametrize("how", ["zip", "legacy", "inside", "script"])
def test_whole_pytorch_module_is_read_as_data(how: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = build("cifar/resnet20", backend="torch", seed=1)
    path = tmp_path / "w.pt"
    if how == "script":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, and its files remain
            torch.jit.script(torch.nn.Sequential(model.conv1, model.bn1)).save(path)
        expected = {"0.weight": model.conv1.weight, **{f"1.{n}": t for n, t in model.bn1.state_dict().items()}}
        expected = {name: t.detach().numpy() for name, t in expected.items() if t.is_floating_point()}
    else:
        inner = torch.nn.Sequential(model.conv1, torch.nn.ModuleDict({"norm": model.bn1}))
        torch.save({"model": inner} if how == "inside" else inner, path, _use_new_zipfile_serialization=how != "legacy")
        states = inner.state_dict().items()
        prefix = "model." if how == "inside" else ""
        expected = {f"{prefix}{name}": t.numpy() for name, t in states if t.is_floating_point()}
    assert_equal(read_arrays(path), expected)


@pytest.mark.filterwarnings("ignore")
def test_transformers_own_file_is_read(tmp_path: Path) -> None:
    pytest.importorskip("transformers", exc_type=ImportError)
    from transformers import ResNetConfig, ResNetForImageClassification

    kind: Any = ResNetConfig
    config = kind(embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3], num_labels=7)
    model = ResNetForImageClassification(config)
    arrays = fill(model)
    model.save_pretrained(tmp_path / "folder", max_shard_size="40MB")
    assert len(list((tmp_path / "folder").glob("*.safetensors"))) > 1
    assert_equal(read_arrays(tmp_path / "folder"), arrays)
    best = identify(tmp_path / "folder")[0]
    assert (best.how, best.settings) == ("but for the head", {"classes": 7})


CONFIGURED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ConvNext": ("ConvNextForImageClassification", "timm/convnext_tiny", {}),
    "ConvNextV2": ("ConvNextV2ForImageClassification", "timm/convnextv2_tiny", {}),
    "Bit": ("BitForImageClassification", "timm/resnetv2_50x1_bit", {}),
    "RegNet": (
        "RegNetForImageClassification",
        "timm/regnety_004",
        {"embedding_size": 32, "hidden_sizes": [48, 104, 208, 440], "depths": [1, 3, 6, 6], "groups_width": 8},
    ),
}
"""The class of a network in Transformers, the spec of the same network, and the configuration with which it is that."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["ConvNext", *(pytest.param(n, marks=pytest.mark.sweep) for n in list(CONFIGURED)[1:])]
)
def test_transformers_own_networks_are_read(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    pytest.importorskip("torch")
    kind, spec, settings = CONFIGURED[name]
    config = getattr(transformers, f"{name}Config")(num_labels=1000, **settings)
    model = getattr(transformers, kind)(config)
    arrays = fill(model)
    model.save_pretrained(tmp_path / "folder")
    convert(tmp_path / "folder", tmp_path / "w.npz", spec)
    with np.load(tmp_path / "w.npz") as file:
        assert sorted(file[name].tobytes() for name in file.files) == sorted(a.tobytes() for a in arrays.values())


@pytest.mark.filterwarnings("ignore")  # Keras calls what NumPy has deprecated
def test_keras_own_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", exc_type=ImportError)

    inputs = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, name="conv1_conv")(inputs)
    maps = keras.layers.BatchNormalization(name="conv1_bn")(maps)
    model = keras.Model(inputs, keras.layers.Dense(2, name="predictions")(keras.layers.GlobalAveragePooling2D()(maps)))
    expected = sorted(keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights)
    for name in ("m.weights.h5", "m.keras", "m.h5"):
        (model.save_weights if name == "m.weights.h5" else model.save)(tmp_path / name)
        arrays = read_arrays(tmp_path / name)
        assert sorted(array.tobytes() for array in arrays.values()) == expected
        assert {"conv1_conv", "conv1_bn", "predictions"} == {key.split("/")[0] for key in arrays}


def test_flax_own_msgpack_is_read(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    import ml_dtypes

    random = np.random.default_rng(0)
    state: dict[str, Any] = {
        "params": {"conv_init": {"kernel": random.random((7, 7, 3, 8), np.float32)}},
        "batch_stats": {"bn_init": {"mean": random.random(8).astype(ml_dtypes.bfloat16), "var": np.float32(3)}},
        "step": 3,
    }
    (tmp_path / "w").write_bytes(serialization.msgpack_serialize(state))
    arrays = read_arrays(tmp_path / "w")
    assert arrays["params.conv_init.kernel"].tobytes() == state["params"]["conv_init"]["kernel"].tobytes()
    tensor = registry.read(tmp_path / "w").tensors["batch_stats.bn_init.mean"]
    assert tensor.read().tobytes() == state["batch_stats"]["bn_init"]["mean"].tobytes()


def test_flax_array_in_pieces_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serialization = pytest.importorskip("flax.serialization")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 1000)
    array = np.random.default_rng(0).random((30, 50), np.float32)
    (tmp_path / "w").write_bytes(serialization.msgpack_serialize({"a": {"kernel": array}}))
    assert_equal(read_arrays(tmp_path / "w"), {"a.kernel": array})


def test_exported_onnx_model_is_read(tmp_path: Path) -> None:
    required("onnx")
    from resnet_spec.backend import ExportOptions, load_backend

    backend: Any = load_backend("onnx")
    model = build("cifar/resnet20", backend="onnx", seed=2)
    backend.export(model, tmp_path / "m.onnx", ExportOptions("onnx"))
    convert(tmp_path / "m.onnx", tmp_path / "w.npz", "cifar/resnet20")
    with np.load(tmp_path / "w.npz") as file:
        assert_equal(dict(file), backend.dump(model))


@pytest.mark.filterwarnings("ignore")
def test_lightning_own_checkpoint_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning", exc_type=ImportError)
    import pytorch_lightning
    import torch

    class Module(pytorch_lightning.LightningModule):  # type: ignore[misc]  # it is not among what types are checked with
        def __init__(self) -> None:
            super().__init__()
            self.any_name = build("cifar/resnet20", backend="torch", seed=4)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

    module = Module()
    trainer = pytorch_lightning.Trainer(max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "w.ckpt", weights_only=True)
    notes = convert(tmp_path / "w.ckpt", tmp_path / "w.npz", "cifar/resnet20").notes
    assert "read under state_dict.any_name" in notes
