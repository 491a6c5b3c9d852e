"""Checkpoint files: what we write opens with each framework's own loader, and what each writes is read here, bit for bit."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.checkpoints.formats import registry, zip_archive
from resnet_spec.checkpoints.formats.tensors import BFLOAT16, FLOATS, Checkpoint, CheckpointError, Tensor
from resnet_spec.weights.canonical import Array

torch = pytest.importorskip("torch")

ENDINGS = {"safetensors": "w.safetensors", "torch": "w.pth", "paddle": "w.pdparams", "npz": "w.npz", "orbax": "w"}


def readable(kind: str) -> str:
    """A kind that can be read here: Orbax's takes a library that comes with Flax."""
    if kind == "orbax" and "flax" not in os.environ.get("RESNET_SPEC_REQUIRE", ""):
        pytest.importorskip("tensorstore")
    return kind


def arrays() -> dict[str, Array]:
    """One array of each type, and the shapes that go wrong first: none, one number, a thousand bytes and more."""
    random = np.random.default_rng(0)
    found = {f"layer.{name}": random.standard_normal((3, 4, 5)).astype(dtype) for name, dtype in FLOATS.items()}
    shapes: dict[str, tuple[int, ...]] = {"scalar": (), "one": (1,), "odd": (7, 3), "large": (40, 30)}
    return found | {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def tensors(given: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: Tensor(array.shape, array.dtype, array.copy) for name, array in given.items()}


def assert_same(checkpoint: Checkpoint, wanted: Mapping[str, Array]) -> None:
    assert checkpoint.tensors.keys() == wanted.keys()
    for name, array in wanted.items():
        tensor = checkpoint.tensors[name]
        found = tensor.read()
        assert (tensor.shape, tensor.dtype, found.shape, found.dtype) == (array.shape, array.dtype) * 2
        assert found.tobytes() == array.tobytes()
        assert found.flags.c_contiguous


@pytest.mark.parametrize("kind", registry.KINDS)
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    registry.write(tmp_path / ENDINGS[readable(kind)], kind, tensors(arrays()), {"spec": "resnet18"})
    found = registry.read(tmp_path / ENDINGS[kind])
    assert_same(found, arrays())
    assert found.metadata["spec"] == "resnet18"
    assert registry.kind_of(tmp_path / ENDINGS[kind]) == kind


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_network_whose_names_are_larger_than_its_weights_is_read(kind: str, tmp_path: Path) -> None:
    thin = {f"layer1.{block}.bn{index}.weight": np.ones(2, np.float32) for block in range(600) for index in range(3)}
    registry.write(tmp_path / ENDINGS[readable(kind)], kind, tensors(thin), {})
    assert_same(registry.read(tmp_path / ENDINGS[kind]), thin)


@pytest.mark.parametrize("kind", [kind for kind in registry.KINDS if kind != "orbax"])  # whose metadata hold the time
def test_the_same_weights_give_the_same_file(kind: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        registry.write(tmp_path / folder / ENDINGS[kind], kind, tensors(arrays()), {})
    assert (tmp_path / "a" / ENDINGS[kind]).read_bytes() == (tmp_path / "b" / ENDINGS[kind]).read_bytes()


def bits(tensor: Any) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("options", [{}, {"mmap": True}])
def test_torch_loads_what_is_written(options: dict[str, bool], tmp_path: Path) -> None:
    registry.write(tmp_path / "w.pth", "torch", tensors(arrays()), {})
    loaded = torch.load(tmp_path / "w.pth", weights_only=True, **options)
    assert type(loaded) is OrderedDict
    assert {name: (tuple(tensor.shape), bits(tensor)) for name, tensor in loaded.items()} == {
        name: (array.shape, array.tobytes()) for name, array in arrays().items()
    }
    assert loaded["layer.bfloat16"].dtype == torch.bfloat16


def test_a_torch_file_is_a_sound_zip_archive_aligned_as_torch_aligns(tmp_path: Path) -> None:
    registry.write(tmp_path / "w.pth", "torch", tensors(arrays()), {})
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        assert archive.testzip() is None
    checkpoint = registry.read(tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    assert all(
        data.index(tensor.read().tobytes()) % 64 == 0 for tensor in checkpoint.tensors.values() if tensor.nbytes > 64
    )


@pytest.mark.parametrize("name", ["_ZIP64", "_FULL_COUNT"])
@pytest.mark.parametrize("kind", ["npz", "torch"])
def test_archives_larger_than_four_gigabytes(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fields that such an archive has, in small ones: what takes eight bytes starts at one."""
    monkeypatch.setattr(zip_archive, name, 1)
    path = tmp_path / ENDINGS[kind]
    registry.write(path, kind, tensors(arrays()), {"spec": "x"})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.infolist()) >= len(arrays())
    if kind == "npz":
        found = {name: array.tobytes() for name, array in np.load(path).items()}
    else:
        found = {name: bits(tensor) for name, tensor in torch.load(path, weights_only=True).items()}
    assert found == {name: array.tobytes() for name, array in arrays().items()}
    assert_same(registry.read(path), arrays())


def test_safetensors_own_library_loads_what_is_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    registry.write(tmp_path / "w.safetensors", "safetensors", tensors(arrays()), {})
    loaded = load_file(tmp_path / "w.safetensors")
    assert {name: bits(tensor) for name, tensor in loaded.items()} == {n: a.tobytes() for n, a in arrays().items()}


def test_numpy_loads_what_is_written(tmp_path: Path) -> None:
    registry.write(tmp_path / "w.npz", "npz", tensors(arrays()), {})
    with np.load(tmp_path / "w.npz", allow_pickle=False) as loaded:
        assert {name: loaded[name].tobytes() for name in loaded.files} == {n: a.tobytes() for n, a in arrays().items()}
        assert loaded["layer.bfloat16"].view(BFLOAT16).tolist() == arrays()["layer.bfloat16"].tolist()


def numbers() -> dict[str, Any]:
    """A state dict as they are in the wild."""
    made = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=made)
    return {
        "conv.weight": torch.nn.Parameter(torch.randn(4, 3, 3, 3, generator=made)),
        "transposed": base.t(),
        "view": base[1:4, ::2],
        "last": base[5:],
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "bn.num_batches_tracked": torch.tensor(3),
    }


def of_torch(state: Mapping[str, Any]) -> dict[str, Array]:
    plain = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    return {
        name: tensor.view(torch.uint16).numpy().view(BFLOAT16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
        for name, tensor in plain.items()
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_what_torch_saves_is_read(zipped: bool, ordered: bool, tmp_path: Path) -> None:
    state = OrderedDict(numbers()) if ordered else numbers()
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_same(registry.read(tmp_path / "w.pth"), of_torch(numbers()))


@pytest.mark.parametrize("zipped", [True, False])
def test_nested_mappings_and_what_is_no_tensor(zipped: bool, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    held = {"epoch": 3, "arch": "resnet50", "state_dict": numbers(), "optimizer": optimizer, "best": np.float64(0.5)}
    torch.save(held, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    wanted = {f"state_dict.{name}": array for name, array in of_torch(numbers()).items()}
    wanted["optimizer.state.0.momentum_buffer"] = np.ones(2, np.float32)
    assert_same(registry.read(tmp_path / "w.pth"), wanted)


def test_a_model_state_with_a_namespace_beside_it_is_read_though_weights_only_refuses_it(tmp_path: Path) -> None:
    import argparse

    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "w.pth", weights_only=True)
    assert_same(registry.read(tmp_path / "w.pth"), {"model.a": np.ones(2, np.float32)})


def test_a_tensor_with_attributes_and_one_without_gradients(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.note = "kept"
    torch.save({"a": parameter, "b": torch.ones(3).requires_grad_()}, tmp_path / "w.pth")
    assert_same(registry.read(tmp_path / "w.pth"), {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(numbers(), tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(registry.read(tmp_path / "w.pth"), of_torch(numbers()))


def test_big_endian_bytes_are_turned_round(tmp_path: Path) -> None:
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
    """As Paddle saves a state dict; protocol 2 has no bytes, and puts text in their place. Paddle itself stops at 4."""
    import pickle

    random = np.random.default_rng(1)
    state = {
        name: random.standard_normal(shape).astype(kind)
        for name, shape in {"a": (2, 3), "b": (900,), "c": (3,)}.items()
    }
    state["d"] = np.asfortranarray(random.standard_normal((40, 50)).astype(kind))
    saved = {**state, "StructuredToParameterName@@": {name: f"p_{name}" for name in state}}
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(saved, protocol))
    assert_same(registry.read(tmp_path / "w.pdparams"), state)


def test_arrays_that_paddle_cut_into_parts_are_whole_again(tmp_path: Path) -> None:
    import pickle

    whole = np.arange(12, dtype=np.float32)
    parts = {"w@@.0": whole[:5], "w@@.1": whole[5:]}
    cut = {"UnpackBigParamInfor@@": {"w": {"OriginShape": (3, 4), "slices": list(parts)}}}
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({**parts, **cut}, 2))
    assert_same(registry.read(tmp_path / "w.pdparams"), {"w": whole.reshape(3, 4)})


@pytest.mark.parametrize("compressed", [True, False])
def test_what_numpy_saves_is_read(compressed: bool, tmp_path: Path) -> None:
    wanted = {name: array for name, array in arrays().items() if array.dtype != BFLOAT16}
    wanted["turned"] = np.asfortranarray(arrays()["odd"])
    (np.savez_compressed if compressed else np.savez)(tmp_path / "w.npz", **wanted)  # type: ignore[arg-type]
    assert_same(registry.read(tmp_path / "w.npz"), wanted)


def test_what_numpy_saves_of_bfloat16_is_read_as_such(tmp_path: Path) -> None:
    array = np.arange(4).astype(BFLOAT16)
    np.savez(tmp_path / "w.npz", a=array)
    assert_same(registry.read(tmp_path / "w.npz"), {"a": array})


def test_reading_names_and_shapes_reads_no_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from resnet_spec.checkpoints.formats import byte_ranges

    longest = []
    read = byte_ranges.read

    def counted(path: str, offset: int, size: int) -> Array:
        longest.append(size)
        return read(path, offset, size)

    monkeypatch.setattr(byte_ranges, "read", counted)
    large = {"a": np.zeros((400, 1000), np.float32)}
    for kind in ("safetensors", "torch", "paddle", "npz"):
        registry.write(tmp_path / ENDINGS[kind], kind, tensors(large), {})
        assert registry.read(tmp_path / ENDINGS[kind]).tensors["a"].shape == (400, 1000)
    torch.save({"a": torch.zeros(400, 1000)}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    assert registry.read(tmp_path / "legacy.pth").tensors["a"].shape == (400, 1000)
    assert max(longest) < 200_000


def script() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("net/data.pkl", "net/constants.pkl", "net/code/net.py"):
            archive.writestr(name, b"")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("w.pth", b"", "w.pth is no checkpoint that is known: it starts with b''"),
        ("w.h5", b"\x89HDF\r\n\x1a\n....", "w.h5 is no checkpoint that is known, but an HDF5 file, as Keras writes"),
        ("w.pth", b"\x1f\x8b\x08....", "w.pth is no checkpoint that is known, but compressed with gzip; unpack it"),
        ("w.pt", script(), "w.pt holds a TorchScript program, which is code; save torch.jit.load(...).state_dict() in its place"),
        ("w.pdparams", b"\x80\x04K\x01.", "w.pdparams holds no mapping of arrays; save model.state_dict() in its place"),
        ("w.safetensors", b"junk", "w.safetensors is cut short: expected 8 bytes at 0, found 4"),
        (
            "w.safetensors",
            struct.pack("<Q", 10**12) + b"{}",
            "w.safetensors is not a whole safetensors file: its header claims 1,000,000,000,000 bytes, the file has 10",
        ),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_said(
    name: str, data: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        registry.read(name)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("kind", ["safetensors", "torch", "paddle", "npz", "orbax"])
def test_a_flipped_bit_in_an_array_is_found(kind: str, tmp_path: Path) -> None:
    """Each format that we write keeps a checksum of each array: its own, or in its metadata."""
    array = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    path = tmp_path / ENDINGS[readable(kind)]
    registry.write(path, kind, tensors({"a": array}), {})
    file = path / "a" / "0" if path.is_dir() else path
    data = bytearray(file.read_bytes())
    data[data.index(array.tobytes()) + 1234] ^= 4
    file.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"is damaged: expected the checksum [0-9a-f]{8} for '.*a.*', found [0-9a-f]{8}"
    ):
        registry.read(path).tensors["a"].read()


def test_a_header_keeps_its_length_whatever_the_checksums_are(tmp_path: Path) -> None:
    registry.write(tmp_path / "w.safetensors", "safetensors", tensors(arrays()), {})
    data = (tmp_path / "w.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert len(json.loads(data[8 : 8 + length])["__metadata__"]["crc32"]) == 8 * len(arrays())


class Killed(Exception):
    """Stands for whatever ends a conversion in its middle."""


@pytest.mark.parametrize("kind", registry.KINDS)
@pytest.mark.parametrize("before", [True, False])
def test_writing_that_ends_early_leaves_what_was_there(kind: str, before: bool, tmp_path: Path) -> None:
    path = tmp_path / ENDINGS[readable(kind)]
    if before:
        registry.write(path, kind, tensors({"a": np.zeros(3, np.float32)}), {})

    def killed() -> Array:
        raise Killed

    broken = {**tensors(arrays()), "end": Tensor((3,), np.dtype(np.float32), killed)}
    with pytest.raises(FileExistsError if before and kind == "orbax" else Killed):
        registry.write(path, kind, broken, {})
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if before else [])
    if before:
        assert_same(registry.read(path), {"a": np.zeros(3, np.float32)})


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.npz").symlink_to(tmp_path / "w.npz")
    registry.write(tmp_path / "link.npz", "npz", tensors({"a": np.zeros(3, np.float32)}), {})
    assert (tmp_path / "link.npz").is_symlink()
    assert_same(registry.read(tmp_path / "w.npz"), {"a": np.zeros(3, np.float32)})
