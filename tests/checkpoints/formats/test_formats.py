"""Checkpoint formats: each framework loads the files that are written, and its own files are read, bit for bit."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.checkpoints.formats import byte_ranges, registry, zip_archive
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, FLOATS, Checkpoint, CheckpointError, Tensor
from resnet_spec.weights.canonical import Array
from shared.sampling import in_sweep

torch = pytest.importorskip("torch")

FILE_NAMES = {"safetensors": "w.safetensors", "torch": "w.pth", "paddle": "w.pdparams", "npz": "w.npz", "orbax": "w"}


def require_reader(kind: str) -> str:
    """Return the kind, or skip the test if it is Orbax and tensorstore, which is installed with Flax, is missing."""
    if kind == "orbax" and "flax" not in os.environ.get("RESNET_SPEC_REQUIRE", ""):
        pytest.importorskip("tensorstore")
    return kind


def make_arrays() -> dict[str, Array]:
    """Return an array of each type, and arrays of shapes that are special cases: scalar, small, and over a kilobyte."""
    random = np.random.default_rng(0)
    arrays = {f"layer.{name}": random.standard_normal((3, 4, 5)).astype(dtype) for name, dtype in FLOATS.items()}
    shapes: dict[str, tuple[int, ...]] = {"scalar": (), "one": (1,), "odd": (7, 3), "large": (40, 30)}
    return arrays | {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def to_tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: Tensor(array.shape, array.dtype, array.copy) for name, array in arrays.items()}


def assert_same(checkpoint: Checkpoint, expected: Mapping[str, Array]) -> None:
    """Check that a checkpoint holds these arrays, bit for bit and in C order."""
    assert checkpoint.tensors.keys() == expected.keys()
    for name, array in expected.items():
        tensor = checkpoint.tensors[name]
        actual = tensor.read()
        assert (tensor.shape, tensor.dtype, actual.shape, actual.dtype) == (array.shape, array.dtype) * 2
        assert actual.tobytes() == array.tobytes()
        assert actual.flags.c_contiguous


@pytest.mark.parametrize("kind", registry.KINDS)
def test_written_file_is_read(kind: str, tmp_path: Path) -> None:
    registry.write(tmp_path / FILE_NAMES[require_reader(kind)], kind, to_tensors(make_arrays()), {"spec": "resnet18"})
    checkpoint = registry.read(tmp_path / FILE_NAMES[kind])
    assert_same(checkpoint, make_arrays())
    assert checkpoint.metadata["spec"] == "resnet18"
    assert registry.infer_kind(tmp_path / FILE_NAMES[kind]) == kind


@pytest.mark.parametrize("kind", registry.KINDS)
@pytest.mark.share(2)
def test_file_with_more_bytes_of_names_than_of_weights_is_read(kind: str, tmp_path: Path) -> None:
    thin = {f"layer1.{block}.bn{index}.weight": np.ones(2, np.float32) for block in range(600) for index in range(3)}
    registry.write(tmp_path / FILE_NAMES[require_reader(kind)], kind, to_tensors(thin), {})
    assert_same(registry.read(tmp_path / FILE_NAMES[kind]), thin)


@pytest.mark.parametrize("kind", [kind for kind in registry.KINDS if kind != "orbax"])  # which stores the time
def test_same_weights_give_same_file(kind: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        registry.write(tmp_path / folder / FILE_NAMES[kind], kind, to_tensors(make_arrays()), {})
    assert (tmp_path / "a" / FILE_NAMES[kind]).read_bytes() == (tmp_path / "b" / FILE_NAMES[kind]).read_bytes()


def to_bytes(tensor: Any) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("options", [{}, {"mmap": True}])
def test_torch_loads_written_file(options: dict[str, bool], tmp_path: Path) -> None:
    registry.write(tmp_path / "w.pth", "torch", to_tensors(make_arrays()), {})
    loaded = torch.load(tmp_path / "w.pth", weights_only=True, **options)
    assert type(loaded) is OrderedDict
    assert {name: (tuple(tensor.shape), to_bytes(tensor)) for name, tensor in loaded.items()} == {
        name: (array.shape, array.tobytes()) for name, array in make_arrays().items()
    }
    assert loaded["layer.bfloat16"].dtype == torch.bfloat16


def test_torch_file_is_a_valid_zip_archive_aligned_as_by_torch(tmp_path: Path) -> None:
    registry.write(tmp_path / "w.pth", "torch", to_tensors(make_arrays()), {})
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        assert archive.testzip() is None
    checkpoint = registry.read(tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    assert all(
        data.index(tensor.read().tobytes()) % 64 == 0 for tensor in checkpoint.tensors.values() if tensor.nbytes > 64
    )


@pytest.mark.parametrize("limit", ["_MIN_ZIP64", "_MIN_ZIP64_COUNT"])
@pytest.mark.parametrize("kind", ["npz", "torch"])
def test_zip64_archives(kind: str, limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives of over four gigabytes or 65,535 entries, imitated by lower limits for 64-bit fields."""
    monkeypatch.setattr(zip_archive, limit, 1)
    path = tmp_path / FILE_NAMES[kind]
    registry.write(path, kind, to_tensors(make_arrays()), {"spec": "x"})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.infolist()) >= len(make_arrays())
    if kind == "npz":
        loaded = {name: array.tobytes() for name, array in np.load(path).items()}
    else:
        loaded = {name: to_bytes(tensor) for name, tensor in torch.load(path, weights_only=True).items()}
    assert loaded == {name: array.tobytes() for name, array in make_arrays().items()}
    assert_same(registry.read(path), make_arrays())


def test_safetensors_loads_written_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    registry.write(tmp_path / "w.safetensors", "safetensors", to_tensors(make_arrays()), {})
    loaded = load_file(tmp_path / "w.safetensors")
    assert {name: to_bytes(tensor) for name, tensor in loaded.items()} == {
        n: a.tobytes() for n, a in make_arrays().items()
    }


def test_numpy_loads_written_file(tmp_path: Path) -> None:
    registry.write(tmp_path / "w.npz", "npz", to_tensors(make_arrays()), {})
    with np.load(tmp_path / "w.npz", allow_pickle=False) as loaded:
        assert {name: loaded[name].tobytes() for name in loaded.files} == {
            n: a.tobytes() for n, a in make_arrays().items()
        }
        assert loaded["layer.bfloat16"].view(BFLOAT16).tolist() == make_arrays()["layer.bfloat16"].tolist()


def make_state_dict() -> dict[str, Any]:
    """Return a state dict of parameters, views that share a storage, several types, and a counter."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    return {
        "conv.weight": torch.nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator)),
        "transposed": base.t(),
        "view": base[1:4, ::2],
        "last": base[5:],
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "bn.num_batches_tracked": torch.tensor(3),
    }


def to_numpy(state: Mapping[str, Any]) -> dict[str, Array]:
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    return {
        name: tensor.view(torch.uint16).numpy().view(BFLOAT16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_file_saved_by_torch_is_read(zipped: bool, ordered: bool, tmp_path: Path) -> None:
    state = OrderedDict(make_state_dict()) if ordered else make_state_dict()
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_same(registry.read(tmp_path / "w.pth"), to_numpy(make_state_dict()))


@pytest.mark.parametrize("zipped", [True, False])
def test_nested_mappings_are_read_and_other_values_ignored(zipped: bool, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    saved = {
        "epoch": 3,
        "arch": "resnet50",
        "state_dict": make_state_dict(),
        "optimizer": optimizer,
        "best": np.float64(0.5),
    }
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    expected = {f"state_dict.{name}": array for name, array in to_numpy(make_state_dict()).items()}
    expected["optimizer.state.0.momentum_buffer"] = np.ones(2, np.float32)
    assert_same(registry.read(tmp_path / "w.pth"), expected)


def test_weights_beside_a_namespace_are_read_although_weights_only_refuses_them(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "w.pth", weights_only=True)
    assert_same(registry.read(tmp_path / "w.pth"), {"model.a": np.ones(2, np.float32)})


def test_tensors_with_attributes_or_requires_grad_are_read(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.note = "kept"
    torch.save({"a": parameter, "b": torch.ones(3).requires_grad_()}, tmp_path / "w.pth")
    assert_same(registry.read(tmp_path / "w.pth"), {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})


def test_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(make_state_dict(), tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(registry.read(tmp_path / "w.pth"), to_numpy(make_state_dict()))


def test_big_endian_file_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "little.pth")
    with zipfile.ZipFile(tmp_path / "little.pth") as little, zipfile.ZipFile(tmp_path / "w.pth", "w") as big:
        for name in little.namelist():
            data = little.read(name)
            data = b"big" if name.endswith("byteorder") else data
            big.writestr(name, np.frombuffer(data, "<f4").astype(">f4").tobytes() if "/data/" in name else data)
    assert_same(registry.read(tmp_path / "w.pth"), {"a": np.arange(3, dtype=np.float32)})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_pickled_numpy_arrays_are_read(protocol: int, kind: type[np.floating[Any]], tmp_path: Path) -> None:
    """As Paddle saves a state dict, by protocol 2 to 4. Protocol 2 has no bytes and stores them as text."""
    random = np.random.default_rng(1)
    state = {
        name: random.standard_normal(shape).astype(kind)
        for name, shape in {"a": (2, 3), "b": (900,), "c": (3,)}.items()
    }
    state["d"] = np.asfortranarray(random.standard_normal((40, 50)).astype(kind))
    saved = {**state, "StructuredToParameterName@@": {name: f"p_{name}" for name in state}}
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(saved, protocol))
    assert_same(registry.read(tmp_path / "w.pdparams"), state)


def test_arrays_that_paddle_split_are_joined(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.float32)
    parts = {"w@@.0": whole[:5], "w@@.1": whole[5:]}
    split = {"UnpackBigParamInfor@@": {"w": {"OriginShape": (3, 4), "slices": list(parts)}}}
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({**parts, **split}, 2))
    assert_same(registry.read(tmp_path / "w.pdparams"), {"w": whole.reshape(3, 4)})


@pytest.mark.parametrize("compressed", [True, False])
def test_file_saved_by_numpy_is_read(compressed: bool, tmp_path: Path) -> None:
    expected = {name: array for name, array in make_arrays().items() if array.dtype != BFLOAT16}
    expected["fortran"] = np.asfortranarray(make_arrays()["odd"])
    (np.savez_compressed if compressed else np.savez)(tmp_path / "w.npz", **expected)  # type: ignore[arg-type]
    assert_same(registry.read(tmp_path / "w.npz"), expected)


def test_bfloat16_saved_by_numpy_is_read(tmp_path: Path) -> None:
    array = np.arange(4).astype(BFLOAT16)
    np.savez(tmp_path / "w.npz", a=array)
    assert_same(registry.read(tmp_path / "w.npz"), {"a": array})


def test_opening_a_file_reads_no_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = []
    read = byte_ranges.read

    def recording_read(path: str, offset: int, size: int) -> Array:
        sizes.append(size)
        return read(path, offset, size)

    monkeypatch.setattr(byte_ranges, "read", recording_read)
    large = {"a": np.zeros((400, 1000), np.float32)}
    for kind in ("safetensors", "torch", "paddle", "npz"):
        registry.write(tmp_path / FILE_NAMES[kind], kind, to_tensors(large), {})
        assert registry.read(tmp_path / FILE_NAMES[kind]).tensors["a"].shape == (400, 1000)
    torch.save({"a": torch.zeros(400, 1000)}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    assert registry.read(tmp_path / "legacy.pth").tensors["a"].shape == (400, 1000)
    assert max(sizes) < 200_000


@pytest.mark.parametrize("form", ["torch of before 1.6", *in_sweep("torch", "paddle")])
@pytest.mark.sweep
def test_twenty_thousand_small_arrays_are_read(form: str, tmp_path: Path) -> None:
    """The budget of names and shapes, which a file of any size has, is enough for as many, with their long names."""
    names = [f"backbone.stages.{index // 900}.blocks.{index // 9}.convs.{index}.weight" for index in range(20_000)]
    tensors = dict(zip(names, torch.ones(20_000, 2).unbind(), strict=True))
    if form == "paddle":
        state = {name: tensor.numpy() for name, tensor in tensors.items()}
        (tmp_path / "w").write_bytes(pickle.dumps({"state_dict": state, "epoch": 3}, 2))
    else:
        saved = {"state_dict": tensors, "epoch": 3}
        torch.save(saved, tmp_path / "w", _use_new_zipfile_serialization=form == "torch")
    assert list(registry.read(tmp_path / "w").tensors) == [f"state_dict.{name}" for name in names]


def make_torchscript() -> bytes:
    """Return an archive with the files by which a TorchScript program is recognized."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("net/data.pkl", "net/constants.pkl", "net/code/net.py"):
            archive.writestr(name, b"")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("w.pth", b"", "w.pth is not a checkpoint in a known format: it is empty; download"),
        (
            "w.h5",
            b"\x89HDF\r\n\x1a\n....",
            "w.h5 is damaged: the HDF5 library says: ",
        ),
        (
            "w.pth",
            b"\x1f\x8b\x08....",
            "w.pth is not a checkpoint in a known format: it is compressed with gzip; decompress it first",
        ),
        (
            "w.pt",
            make_torchscript(),
            "w.pt is damaged: ",
        ),
        (
            "w.pdparams",
            b"\x80\x04K\x01.",
            "w.pdparams does not hold a mapping of arrays; save model.state_dict() instead",
        ),
        ("w.safetensors", b"junk", "w.safetensors is truncated: expected 8 bytes at 0, found 4"),
        (
            "w.safetensors",
            struct.pack("<Q", 10**12) + b"{}",
            "w.safetensors is not a valid safetensors file: its header claims 1,000,000,000,000 bytes, but the file",
        ),
    ],
)
def test_error_for_a_file_that_is_not_a_checkpoint(
    name: str, data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        registry.read(name)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("kind", ["safetensors", "torch", "paddle", "npz", "orbax"])
def test_flipped_bit_in_an_array_is_detected(kind: str, tmp_path: Path) -> None:
    """Every written file has a checksum of each array: the format's own, or one in the metadata."""
    array = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    path = tmp_path / FILE_NAMES[require_reader(kind)]
    registry.write(path, kind, to_tensors({"a": array}), {})
    file = path / "a" / "0" if path.is_dir() else path
    data = bytearray(file.read_bytes())
    data[data.index(array.tobytes()) + 1234] ^= 4
    file.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"is damaged: expected the checksum [0-9a-f]{8} for '.*a.*', found [0-9a-f]{8}"
    ):
        registry.read(path).tensors["a"].read()


def test_safetensors_header_holds_a_checksum_for_each_array(tmp_path: Path) -> None:
    registry.write(tmp_path / "w.safetensors", "safetensors", to_tensors(make_arrays()), {})
    data = (tmp_path / "w.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert len(json.loads(data[8 : 8 + length])["__metadata__"]["crc32"]) == 8 * len(make_arrays())


class Interrupted(Exception):
    """An error in the middle of a conversion."""


@pytest.mark.parametrize("kind", registry.KINDS)
@pytest.mark.parametrize("exists", [True, False])
def test_interrupted_write_leaves_the_old_file(kind: str, exists: bool, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAMES[require_reader(kind)]
    if exists:
        registry.write(path, kind, to_tensors({"a": np.zeros(3, np.float32)}), {})

    def interrupt() -> Array:
        raise Interrupted

    tensors = {**to_tensors(make_arrays()), "end": Tensor((3,), np.dtype(np.float32), interrupt)}
    with pytest.raises(FileExistsError if exists and kind == "orbax" else Interrupted):
        registry.write(path, kind, tensors, {})
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if exists else [])
    if exists:
        assert_same(registry.read(path), {"a": np.zeros(3, np.float32)})


def test_symbolic_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link.npz").symlink_to(tmp_path / "w.npz")
    registry.write(tmp_path / "link.npz", "npz", to_tensors({"a": np.zeros(3, np.float32)}), {})
    assert (tmp_path / "link.npz").is_symlink()
    assert_same(registry.read(tmp_path / "w.npz"), {"a": np.zeros(3, np.float32)})
