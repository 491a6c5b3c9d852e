"""Checkpoints carried between files: exactly, strictly, and with all that is wrong said at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resnet_spec import build, convert, dump, load
from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import CheckpointError, Dtype
from resnet_spec.checkpoints.transfer.casting import Losses, cast
from resnet_spec.checkpoints.transfer.convert import Conversion
from resnet_spec.weights.canonical import Array, WeightsError, comparison_weights
from shared.small_network import state

torch = pytest.importorskip("torch")

ENDINGS = [".safetensors", ".pth", ".pdparams", ".npz", ""]


def read(path: str) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(path).items()}


def as_bytes(weights: Mapping[str, Array]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in weights.items()}


# -- exactly ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_there_and_back_is_bit_for_bit(ending: str, dtype: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", "start.safetensors", "small.yaml", dtype=dtype)
    convert("start.safetensors", f"there{ending}", "small.yaml")
    done = convert(f"there{ending}", "back.safetensors", "small.yaml")
    assert Path("back.safetensors").read_bytes() == Path("start.safetensors").read_bytes()
    assert (done.arrays, done.losses, done.network) == (len(small), {}, "small")


@pytest.mark.parametrize("names", ["torchvision", "paddleclas", "kuangliu", "linen", "keras", "wide_resnet"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_in_others_names_and_back(names: str, ending: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", f"there{ending}", "small.yaml", names=names)
    done = convert(f"there{ending}", "back.safetensors", "small.yaml")
    assert read("back.safetensors") == as_bytes(small)
    if names != "torchvision":  # which are the network's own
        assert any("the file speaks" in note for note in done.notes)


def test_a_bundled_network_is_named_by_the_file_itself(tmp_path: Path) -> None:
    network = load("resnet18", classes=7)
    save_file(
        {name: array.astype(np.float16) for name, array in comparison_weights(network).items()},
        tmp_path / "w.safetensors",
    )
    convert(tmp_path / "w.safetensors", tmp_path / "there.pdparams", network)
    done = convert(tmp_path / "there.pdparams", tmp_path / "back.npz")
    assert (done.network, done.fingerprint) == ("resnet18", network.fingerprint)


@pytest.mark.parametrize("full", ["timm/test_resnet", "paddleclas/ResNet18", "flax/ResNet18"])
def test_networks_of_the_same_name_are_told_apart_by_their_fingerprints(full: str, tmp_path: Path) -> None:
    network = load(full, classes=3)
    save_file(
        {name: np.zeros(shape, np.float16) for name, shape in network.weights().items()}, tmp_path / "w.safetensors"
    )
    convert(tmp_path / "w.safetensors", tmp_path / "there.npz", network)
    assert convert(tmp_path / "there.npz", tmp_path / "back.npz").fingerprint == network.fingerprint


def test_a_setting_of_the_file_can_be_overridden(tmp_path: Path) -> None:
    network = load("cifar/resnet20", classes=10)
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in network.weights().items()}, tmp_path / "w.safetensors"
    )
    convert(tmp_path / "w.safetensors", tmp_path / "there.npz", network)
    with pytest.raises(WeightsError, match="the spec says 7 classes: --set classes=10"):
        convert(tmp_path / "there.npz", tmp_path / "never.npz", classes=7)


def test_a_file_says_what_it_is(small: dict[str, Array]) -> None:
    network = load("small.yaml")
    for ending in ENDINGS:
        convert("w.safetensors", f"there{ending}", network)
        said = registry.read(f"there{ending}").metadata
        assert (said["spec"], said["settings"], said["fingerprint"]) == ("small", "classes=10", network.fingerprint)
        assert said["producer"].startswith("resnet-spec 0.")


def test_a_file_of_another_network_with_the_same_shapes_is_told_apart(small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.npz", "small.yaml")
    Path("other.yaml").write_text("name: other\nextends: small\nlayers: {norm: {op: batch_norm, epsilon: 0.001}}\n")
    assert convert("there.npz", "back.npz", "other.yaml").notes == (
        "the file was written for small, whose weights fit other, but which computes something else",
    )


# -- wrappings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrap", "notes"),
    [
        (lambda w: w, ()),
        (lambda w: {"state_dict": w, "epoch": 3}, ("the weights are under 'state_dict'",)),
        (
            lambda w: {"model": w, "optimizer": {"state": {0: {"m": torch.zeros(2)}}}},
            ("the weights are under 'model'", "left out: 'optimizer' (1 array)"),
        ),
        (
            lambda w: {f"module.{name}": tensor for name, tensor in w.items()},
            ("42 names start with 'module.', which is taken off",),
        ),
        (
            lambda w: {name if "fc" in name else f"backbone.{name}": tensor for name, tensor in w.items()},
            ("40 names start with 'backbone.', which is taken off",),
        ),
        (
            lambda w: {"state_dict": {f"model.module.{name}": tensor for name, tensor in w.items()}},
            (
                "the weights are under 'state_dict'",
                "the weights are under 'model'",
                "42 names start with 'module.', which is taken off",
            ),
        ),
        (lambda w: {**w, "bn1.num_batches_tracked": torch.tensor(9)}, ()),
        (
            lambda w: {"model": w, "model_ema": {name: 0 * tensor for name, tensor in w.items()}},
            ("the weights are under 'model'", "left out: 'model_ema' (42 arrays)"),
        ),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_around_the_weights_is_taken_off_and_told(
    wrap: Any, notes: tuple[str, ...], zipped: bool, small: dict[str, Array]
) -> None:
    torch.save(wrap(state(small)), "w.pth", _use_new_zipfile_serialization=zipped)
    done = convert("w.pth", "back.safetensors", "small.yaml")
    assert done.notes == notes
    assert read("back.safetensors") == as_bytes(small)


def test_which_mapping_is_meant_can_be_said(small: dict[str, Array]) -> None:
    torch.save(
        {"model": {name: 0 * tensor for name, tensor in state(small).items()}, "model_ema": state(small)}, "w.pth"
    )
    convert("w.pth", "back.safetensors", "small.yaml", under="model_ema")
    assert read("back.safetensors") == as_bytes(small)


# -- strictly -----------------------------------------------------------------------------------------------------


def problems(path: str, spec: str = "small.yaml", **settings: int) -> list[str]:
    with pytest.raises(WeightsError) as error:
        convert(path, "never.npz", load(spec, input=None, outputs=None, **settings))
    assert not Path("never.npz").exists()
    return list(error.value.problems)


def test_all_that_is_wrong_is_said_at_once_with_the_nearest_names(small: dict[str, Array]) -> None:
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


@pytest.mark.parametrize("ending", [".safetensors", ".pdparams"])
def test_another_number_of_classes_is_explained(ending: str, small: dict[str, Array]) -> None:
    convert("w.safetensors", f"there{ending}", "small.yaml")
    shape = (16, 10) if ending == ".pdparams" else (10, 16)
    assert problems(f"there{ending}", classes=1000) == [
        f"fc.weight is {shape}; the spec says 1000 classes: --set classes=10",
        "fc.bias is (10,); the spec says 1000 classes: --set classes=10",
    ]


def test_problems_are_said_in_the_files_own_names(small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.npz", "small.yaml", names="keras")
    with np.load("there.npz") as file:
        np.savez("there.npz", **{name: file[name] for name in file.files if name != "conv2_block1_1_conv/kernel"})
    assert problems("there.npz") == ["missing conv2_block1_1_conv/kernel (3, 3, 8, 8)"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("no.pth", "t.npz", "small.yaml"), FileNotFoundError, "no weights file named 'no.pth'"),
        (("w.safetensors", "t.onnx", "small.yaml"), ValueError, "t.onnx ends in '.onnx'; a file ends in .safetensors, .pth,"),
        (("w.safetensors", "t.npz", None), ValueError, "w.safetensors names no bundled network: --spec says which it is"),
        (("small.yaml", "t.npz", "small.yaml"), CheckpointError, "small.yaml is no checkpoint that is known"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_said(
    arguments: Any, error: type[Exception], said: str, small: dict[str, Array]
) -> None:
    with pytest.raises(error) as raised:
        convert(*arguments)
    assert str(raised.value).startswith(said)
    assert sorted(path.name for path in Path().iterdir()) == ["small.yaml", "w.safetensors"]


def test_names_for_layers_that_a_dialect_does_not_know_are_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"^keras has no names for all the layers of seresnet50$"):
        from resnet_spec.checkpoints.transfer.convert import placed

        placed(load("seresnet50"), "npz", "keras")


# -- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "given", "wanted", "losses"),
    [
        (np.float16, [1e6, -1e6, 65504.0], [65504.0, -65504.0, 65504.0], Losses(saturated=2)),
        (np.float16, [1e-9, 0.0, 6e-8], [0.0, 0.0, 6e-8], Losses(vanished=1)),
        (np.float32, [np.nan, np.inf, 1e300], [np.nan, np.inf, np.finfo(np.float32).max], Losses(2, 1, 0)),
        ("bfloat16", [3.4028e38, 1.0], [3.3895313892515355e38, 1.0], Losses(saturated=1)),
    ],
)
def test_what_a_narrower_type_can_not_hold_is_counted(dtype: Any, given: Any, wanted: Any, losses: Losses) -> None:
    from resnet_spec.checkpoints.formats.tensors import FLOATS

    kind: Dtype = FLOATS[dtype] if isinstance(dtype, str) else np.dtype(dtype)
    found, lost = cast(np.array(given), kind)
    assert lost == losses
    assert np.allclose(found.astype(np.float64), wanted, rtol=1e-2, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_nan_and_infinity_are_told_and_kept(dtype: str, small: dict[str, Array]) -> None:
    small["fc.bias"][:3] = [np.nan, np.inf, -np.inf]
    save_file(small, "w.safetensors")
    done = convert("w.safetensors", "there.pth", "small.yaml", dtype=dtype)
    assert done.losses["fc.bias"].not_finite == 3
    again = convert("there.pth", "back.safetensors", "small.yaml", dtype="float32")
    assert again.losses["fc.bias"].not_finite == 3
    assert np.array_equal(load_file("back.safetensors")["fc.bias"][:3], small["fc.bias"][:3], equal_nan=True)


def test_the_progress_of_a_conversion_is_told(small: dict[str, Array]) -> None:
    told: list[tuple[int, int]] = []
    done: Conversion = convert("w.safetensors", "t.npz", "small.yaml", progress=lambda *bytes_: told.append(bytes_))
    assert [total for _, total in told] == [done.nbytes] * len(small)
    assert told[-1] == (done.nbytes, done.nbytes)
    assert [count for count, _ in told] == sorted(count for count, _ in told)


def test_a_state_dict_goes_strictly_into_a_model_without_counts_of_batches(small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.pth", "small.yaml")
    norm = torch.nn.BatchNorm2d(8)
    loaded = torch.load("there.pth", weights_only=True)
    own = OrderedDict((name[4:], tensor) for name, tensor in loaded.items() if name.startswith("bn1."))
    norm.load_state_dict(own, strict=True)
    assert norm.num_batches_tracked == 0


def test_a_network_that_gives_maps_takes_a_whole_networks_file(small: dict[str, Array]) -> None:
    model = build("small.yaml", backend="numpy", weights="w.safetensors", outputs=["layer1"], dtype="float32")
    assert as_bytes(dump(model)) == {name: data for name, data in as_bytes(small).items() if name in dump(model)}
    assert "fc.weight" not in dump(model)
