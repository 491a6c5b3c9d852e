"""Conversion keeps every bit, is strict, and reports all problems at once."""

from __future__ import annotations

import pickle
import tarfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resnet_spec import build, convert, dump, load, loads
from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import FLOATS, CheckpointError, Dtype
from resnet_spec.checkpoints.transfer.casting import Losses, cast
from resnet_spec.checkpoints.transfer.convert import Conversion, map_to_kind
from resnet_spec.weights.canonical import Array, WeightsError, comparison_weights
from shared.small_network import to_torch

torch = pytest.importorskip("torch")

SUFFIXES = [".safetensors", ".pth", ".pdparams", ".npz", ""]


def load_bytes(path: str) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(path).items()}


def to_bytes(weights: Mapping[str, Array]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in weights.items()}


# -- exact conversion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_round_trip_is_exact(suffix: str, dtype: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", "start.safetensors", "small.yaml", dtype=dtype)
    convert("start.safetensors", f"there{suffix}", "small.yaml")
    result = convert(f"there{suffix}", "back.safetensors", "small.yaml")
    assert Path("back.safetensors").read_bytes() == Path("start.safetensors").read_bytes()
    assert (result.arrays, result.losses, result.network) == (len(small), {}, "small")


@pytest.mark.parametrize("names", ["torchvision", "paddleclas", "kuangliu", "linen", "keras", "wide_resnet"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.share(4)
def test_round_trip_through_other_names_is_exact(names: str, suffix: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", f"there{suffix}", "small.yaml", names=names)
    result = convert(f"there{suffix}", "back.safetensors", "small.yaml")
    assert load_bytes("back.safetensors") == to_bytes(small)
    if names != "torchvision":  # the network's own names are torchvision's
        assert any("the file uses" in note for note in result.notes)


def test_network_is_found_by_the_files_metadata(tmp_path: Path) -> None:
    network = load("resnet18", classes=7)
    save_file(
        {name: array.astype(np.float16) for name, array in comparison_weights(network).items()},
        tmp_path / "w.safetensors",
    )
    convert(tmp_path / "w.safetensors", tmp_path / "there.pdparams", network)
    result = convert(tmp_path / "there.pdparams", tmp_path / "back.npz")
    assert (result.network, result.fingerprint) == ("resnet18", network.fingerprint)


@pytest.mark.parametrize("full", ["timm/test_resnet", "paddleclas/ResNet18", "flax/ResNet18"])
def test_networks_of_the_same_name_are_distinguished_by_fingerprint(full: str, tmp_path: Path) -> None:
    network = load(full, classes=3)
    save_file(
        {name: np.zeros(shape, np.float16) for name, shape in network.weights().items()}, tmp_path / "w.safetensors"
    )
    convert(tmp_path / "w.safetensors", tmp_path / "there.npz", network)
    assert convert(tmp_path / "there.npz", tmp_path / "back.npz").fingerprint == network.fingerprint


def test_settings_in_the_file_can_be_overridden(tmp_path: Path) -> None:
    network = load("cifar/resnet20", classes=10)
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in network.weights().items()}, tmp_path / "w.safetensors"
    )
    convert(tmp_path / "w.safetensors", tmp_path / "there.npz", network)
    with pytest.raises(WeightsError, match="the spec says 7 classes: classes=10"):
        convert(tmp_path / "there.npz", tmp_path / "never.npz", classes=7)


def test_written_file_has_metadata(small: dict[str, Array]) -> None:
    network = load("small.yaml")
    for suffix in SUFFIXES:
        convert("w.safetensors", f"there{suffix}", network)
        metadata = registry.read(f"there{suffix}").metadata
        assert (metadata["spec"], metadata["settings"]) == ("small", "classes=10")
        assert metadata["fingerprint"] == network.fingerprint
        assert metadata["producer"].startswith("resnet-spec 0.")


def test_note_for_a_file_of_another_network_with_the_same_shapes(small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.npz", "small.yaml")
    Path("other.yaml").write_text("name: other\nextends: small\nlayers: {norm: {op: batch_norm, epsilon: 0.001}}\n")
    assert convert("there.npz", "back.npz", "other.yaml").notes == (
        "the file was written for small; its weights fit other, which computes something else",
    )


# -- wrappings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrap", "notes"),
    [
        (lambda w: w, ()),
        (lambda w: {"state_dict": w, "epoch": 3}, ("read under state_dict",)),
        (
            lambda w: {"model": w, "optimizer": {"state": {0: {"m": torch.zeros(2)}}}},
            ("read under model", "ignored: 'optimizer' (1 array)"),
        ),
        (
            lambda w: {f"module.{name}": tensor for name, tensor in w.items()},
            ("read under module",),
        ),
        (
            lambda w: {name if "fc" in name else f"backbone.{name}": tensor for name, tensor in w.items()},
            ("read under backbone and the root",),
        ),
        (
            lambda w: {"state_dict": {f"model.module.{name}": tensor for name, tensor in w.items()}},
            ("read under state_dict.model.module",),
        ),
        (lambda w: {**w, "bn1.num_batches_tracked": torch.tensor(9)}, ()),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings_are_removed_and_noted(
    wrap: Any, notes: tuple[str, ...], zipped: bool, small: dict[str, Array]
) -> None:
    torch.save(wrap(to_torch(small)), "w.pth", _use_new_zipfile_serialization=zipped)
    result = convert("w.pth", "back.safetensors", "small.yaml")
    assert result.notes == notes
    assert load_bytes("back.safetensors") == to_bytes(small)


def test_mapping_must_be_chosen_where_several_fit(small: dict[str, Array]) -> None:
    torch.save(
        {"model": {name: 0 * tensor for name, tensor in to_torch(small).items()}, "model_ema": to_torch(small)}, "w.pth"
    )
    with pytest.raises(
        WeightsError, match=r'^the file holds weights of small in 2 places; choose one, as in under="mo'
    ):
        convert("w.pth", "never.safetensors", "small.yaml")
    convert("w.pth", "back.safetensors", "small.yaml", under="model_ema")
    assert load_bytes("back.safetensors") == to_bytes(small)


# -- strict matching --------------------------------------------------------------------------------------------------


def problems(path: str, spec: str = "small.yaml", **settings: int) -> list[str]:
    with pytest.raises(WeightsError) as error:
        convert(path, "never.npz", load(spec, input=None, outputs=None, **settings))
    assert not Path("never.npz").exists()
    return list(error.value.problems)


def test_all_problems_are_reported_at_once_with_the_nearest_names(small: dict[str, Array]) -> None:
    small["layer2.0.conv1.weights"] = small.pop("layer2.0.conv1.weight")
    small["bn1.bias"] = small["bn1.bias"][:4]
    small["extra"] = np.zeros(3, np.float32)
    del small["fc.bias"]
    small["fc.weight"] = small["fc.weight"].astype(np.int32)
    save_file(small, "w.safetensors")
    assert problems("w.safetensors") == [
        "missing layer2.0.conv1.weight (16, 8, 3, 3)",
        "missing fc.bias (10,)",
        "bn1.bias is (4,), but the network's is (8,)",
        "unexpected extra (3,)",
        "unexpected layer2.0.conv1.weights (16, 8, 3, 3); did you mean 'layer2.0.conv1.weight'?",
        "fc.weight is int32; weights are float64, float32, float16 or bfloat16",
    ]


@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_different_number_of_classes_is_explained(suffix: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", f"there{suffix}", "small.yaml")
    shape = (16, 10) if suffix == ".pdparams" else (10, 16)
    assert problems(f"there{suffix}", classes=1000) == [
        f"fc.weight is {shape}; the spec says 1000 classes: classes=10",
        "fc.bias is (10,); the spec says 1000 classes: classes=10",
    ]


def test_problems_use_the_files_own_names(small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.npz", "small.yaml", names="keras")
    with np.load("there.npz") as file:
        np.savez("there.npz", **{name: file[name] for name in file.files if name != "conv2_block1_1_conv/kernel"})
    assert problems("there.npz") == ["missing conv2_block1_1_conv/kernel (3, 3, 8, 8)"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("no.pth", "t.npz", "small.yaml"), FileNotFoundError, "no weights file named 'no.pth'"),
        (("w.safetensors", "t.onnx", "small.yaml"), ValueError, "t.onnx ends in '.onnx'; expected .safetensors, .pth,"),
        (
            ("w.safetensors", "t.npz", None),
            ValueError,
            'w.safetensors does not name a bundled network; pass its spec, as in spec="resnet50"',
        ),
        (("small.yaml", "t.npz", "small.yaml"), CheckpointError, "small.yaml is not a checkpoint in a known format"),
    ],
)
def test_errors(arguments: Any, error: type[Exception], message: str, small: dict[str, Array]) -> None:
    with pytest.raises(error) as raised:
        convert(*arguments)
    assert str(raised.value).startswith(message)
    assert sorted(path.name for path in Path().iterdir()) == ["small.yaml", "w.safetensors"]


def test_dialect_without_a_name_for_a_layer_is_refused() -> None:
    message = r"^the dialect keras does not have names for all layers of seresnet50$"
    with pytest.raises(ValueError, match=message):
        map_to_kind(load("seresnet50"), "npz", "keras")


# -- casts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "values", "expected", "losses"),
    [
        (np.float16, [1e6, -1e6, 65504.0], [65504.0, -65504.0, 65504.0], Losses(saturated=2)),
        (np.float16, [1e-9, 0.0, 6e-8], [0.0, 0.0, 6e-8], Losses(vanished=1)),
        (np.float32, [np.nan, np.inf, 1e300], [np.nan, np.inf, np.finfo(np.float32).max], Losses(2, 1, 0)),
        ("bfloat16", [3.4028e38, 1.0], [3.3895313892515355e38, 1.0], Losses(saturated=1)),
    ],
)
def test_cast_counts_lost_values(dtype: Any, values: Any, expected: Any, losses: Losses) -> None:
    kind: Dtype = FLOATS[dtype] if isinstance(dtype, str) else np.dtype(dtype)
    result, lost = cast(np.array(values), kind)
    assert lost == losses
    assert np.allclose(result.astype(np.float64), expected, rtol=1e-2, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_nan_and_infinity_are_kept_and_counted(dtype: str, small: dict[str, Array]) -> None:
    small["fc.bias"][:3] = [np.nan, np.inf, -np.inf]
    save_file(small, "w.safetensors")
    result = convert("w.safetensors", "there.pth", "small.yaml", dtype=dtype)
    assert result.losses["fc.bias"].not_finite == 3
    restored = convert("there.pth", "back.safetensors", "small.yaml", dtype="float32")
    assert restored.losses["fc.bias"].not_finite == 3
    assert np.array_equal(load_file("back.safetensors")["fc.bias"][:3], small["fc.bias"][:3], equal_nan=True)


def test_progress_is_reported(small: dict[str, Array]) -> None:
    calls: list[tuple[int, int]] = []
    result: Conversion = convert("w.safetensors", "t.npz", "small.yaml", progress=lambda *sizes: calls.append(sizes))
    assert [total for _, total in calls] == [result.nbytes] * len(small)
    assert calls[-1] == (result.nbytes, result.nbytes)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_norm_loads_state_dict_without_batch_counts_strictly(small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.pth", "small.yaml")
    norm = torch.nn.BatchNorm2d(8)
    loaded = torch.load("there.pth", weights_only=True)
    state = OrderedDict((name[4:], tensor) for name, tensor in loaded.items() if name.startswith("bn1."))
    norm.load_state_dict(state, strict=True)
    assert norm.num_batches_tracked == 0


def test_network_with_feature_outputs_loads_the_full_networks_file(small: dict[str, Array]) -> None:
    model = build("small.yaml", backend="numpy", weights="w.safetensors", outputs=["layer1"], dtype="float32")
    assert to_bytes(dump(model)) == {name: data for name, data in to_bytes(small).items() if name in dump(model)}
    assert "fc.weight" not in dump(model)


# -- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["same", "dotted", "symbolic link", "hard link"])
def test_source_is_not_overwritten(how: str, small: dict[str, Array]) -> None:
    before, target = Path("w.safetensors").read_bytes(), Path("w.safetensors")
    if how == "dotted":
        Path("d").mkdir()
        target = Path("d/../w.safetensors")
    elif how == "symbolic link":
        target = Path("link.safetensors")
        target.symlink_to("w.safetensors")
    elif how == "hard link":
        target = Path("link.safetensors")
        target.hardlink_to("w.safetensors")
    with pytest.raises(ValueError, match="does not overwrite what it reads; choose another target"):
        convert("w.safetensors", target, "small.yaml", dtype="float16")
    assert Path("w.safetensors").read_bytes() == before


def test_nothing_is_written_into_a_source_that_is_a_folder(small: dict[str, Array]) -> None:
    pytest.importorskip("tensorstore")
    convert("w.safetensors", "w", "small.yaml")
    before = sorted(path.name for path in Path("w").iterdir())
    with pytest.raises(ValueError, match="does not overwrite what it reads"):
        convert("w", "w/t.npz", "small.yaml")
    assert sorted(path.name for path in Path("w").iterdir()) == before


# -- several files in one ---------------------------------------------------------------------------------------------


def test_tar_of_two_checkpoints_is_refused_with_their_names(small: dict[str, Array]) -> None:
    for name in ("a.pth", "b.pth"):
        convert("w.safetensors", name, "small.yaml")
    with tarfile.open("two.pth.tar", "w") as archive:
        archive.add("a.pth")
        archive.add("b.pth")
    message = r"^two.pth.tar is a tar archive with 'a.pth', 'b.pth'; unpack it \(tar -xf\) and choose one of its files$"
    with pytest.raises(CheckpointError, match=message):
        convert("two.pth.tar", "t.npz", "small.yaml")


@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_archive_behind_other_bytes_is_refused(suffix: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", f"a{suffix}", "small.yaml")
    data = Path(f"a{suffix}").read_bytes()
    for before in (data, b"other bytes"):
        Path(f"two{suffix}").write_bytes(before + data)
        with pytest.raises(CheckpointError, match=f"has {len(before):,} bytes before its archive"):
            convert(f"two{suffix}", "t.npz", "small.yaml")


# -- layouts that nothing tells ---------------------------------------------------------------------------------------

SQUARE = "{name: square, input: [3, 8, 8], stem: {c: {op: conv, out: 5, kernel: 1}}, head: {p: global_avg_pool, fc: "
SQUARE += "{op: linear, out: 5}}}"


@pytest.fixture
def square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """Weights of a network with a square matrix and without norms, in PyTorch's layouts; its spec is in the folder."""
    monkeypatch.chdir(tmp_path)
    Path("square.yaml").write_text(SQUARE)
    return comparison_weights(loads(SQUARE), dtype="float32")


def save_plain(weights: dict[str, Any], path: str) -> None:
    if path.endswith(".npz"):
        np.savez(path, **weights)
    elif path.endswith(".safetensors"):
        save_file(weights, path)
    else:
        Path(path).write_bytes(pickle.dumps(weights))


@pytest.mark.parametrize("path", ["w.npz", "w.pkl", "w.safetensors"])
def test_square_matrix_in_a_format_without_a_layout_is_refused_until_it_is_said(
    path: str, square: dict[str, Array]
) -> None:
    save_plain(square, path)
    with pytest.raises(WeightsError) as error:
        convert(path, "t.safetensors", "square.yaml")
    (problem,) = error.value.problems
    assert problem.startswith("fc.weight (5, 5): nothing in the file tells whether this is (out, in) or (in, out); ")
    with pytest.raises(WeightsError, match="with --layout, which can be"):
        build("square.yaml", backend="numpy", weights=path)
    convert(path, "t.safetensors", "square.yaml", layout="torch")
    assert load_bytes("t.safetensors") == to_bytes(square)
    convert(path, "u.safetensors", "square.yaml", layout="paddle")
    assert np.array_equal(load_file("u.safetensors")["fc.weight"], square["fc.weight"].T)


def test_square_matrix_in_a_format_with_a_layout_is_read(square: dict[str, Array]) -> None:
    torch.save(to_torch(square), "w.pth")
    convert("w.pth", "t.safetensors", "square.yaml")
    assert load_bytes("t.safetensors") == to_bytes(square)
    save_plain({**square, "fc.weight": square["fc.weight"].T.copy()}, "w.pdparams")
    convert("w.pdparams", "there.npz", "square.yaml")
    convert("there.npz", "back.safetensors", "square.yaml")
    assert load_bytes("back.safetensors") == to_bytes(square)


def test_unknown_layout_is_refused(square: dict[str, Array]) -> None:
    save_plain(square, "w.npz")
    with pytest.raises(ValueError, match=r"^layout is 'tf'; it can be torch, paddle, nnx, linen, keras, keras_vars, "):
        convert("w.npz", "t.npz", "square.yaml", layout="tf")
