"""Files that programs write rarely: each is read as its own library reads it, or what is not read is named."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, UnreadTensor, check_total_size
from resnet_spec.weights.canonical import Array
from shared.file_corruption import PickledCall, PickledResult, pickle_tensor, wrap_in_torch_legacy, wrap_in_torch_zip
from shared.frameworks import required

torch = pytest.importorskip("torch")

WRAPPERS: list[Callable[[bytes], bytes]] = [wrap_in_torch_zip, wrap_in_torch_legacy]


def read_bytes(data: bytes, folder: Path) -> Checkpoint:
    (folder / "w").write_bytes(data)
    return registry.read(folder / "w")


def save(value: Any, folder: Path, zipped: bool = True, protocol: int = 2) -> Checkpoint:
    torch.save(value, folder / "w", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return registry.read(folder / "w")


def to_array(tensor: Any) -> Array:
    """Return a tensor as NumPy has it, by its bytes, which PyTorch gives for every type."""
    name = str(tensor.dtype).removeprefix("torch.")
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    tensor = tensor.resolve_neg().resolve_conj().contiguous()
    return np.frombuffer(tensor.reshape(-1).view(torch.uint8).numpy().tobytes(), dtype).reshape(tuple(tensor.shape))


def assert_read(checkpoint: Checkpoint, expected: dict[str, Array]) -> None:
    assert list(checkpoint.tensors) == list(expected)
    for name, array in expected.items():
        actual = checkpoint.tensors[name].read()
        assert (actual.dtype, actual.shape, actual.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
        assert actual.flags.c_contiguous


def assert_named(checkpoint: Checkpoint, name: str, what: str) -> None:
    """Check that an array is listed, that a note says that it was not read, and that reading it is refused."""
    tensor = checkpoint.tensors[name]
    assert isinstance(tensor, UnreadTensor)
    assert any(note.startswith("not read: ") and f"{name} ({what}" in note for note in checkpoint.notes)
    with pytest.raises(CheckpointError, match="which is not read; ") as error:
        tensor.read()
    assert f"{checkpoint.path}: {name!r} is {what}" in str(error.value)


# -- PyTorch ------------------------------------------------------------------------------------------------------

TYPES = [
    "uint16",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]
"""Types of PyTorch that few checkpoints have."""


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_type_that_numpy_can_have_is_read(name: str, zipped: bool, tmp_path: Path) -> None:
    tensor = torch.tensor([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]]).to(getattr(torch, name))
    checkpoint = save({"w": tensor, "view": tensor[1:].t()}, tmp_path, zipped)
    assert_read(checkpoint, {"w": to_array(tensor), "view": to_array(tensor[1:].t())})
    assert checkpoint.notes == ()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "complex64"])
def test_negated_and_conjugated_views_are_read(kind: str, zipped: bool, tmp_path: Path) -> None:
    """PyTorch keeps the sign of an imaginary part beside the view, and its numbers as they were."""
    numbers = torch.tensor([[1 + 2j, 3 - 4j], [5 + 0j, -6 - 7j]])
    views = {"neg": torch._neg_view(numbers.real.to(getattr(torch, kind)) if kind != "complex64" else numbers)}
    if kind == "complex64":
        views |= {"conj": numbers.conj(), "both": torch._neg_view(numbers.conj().t())}
    assert_read(save(views, tmp_path, zipped), {name: to_array(tensor) for name, tensor in views.items()})


def test_sign_of_an_imaginary_part_is_kept(tmp_path: Path) -> None:
    tensor = torch.tensor([1 + 2j]).conj().imag
    assert_read(save({"w": tensor}, tmp_path), {"w": np.array([-2], np.float32)})


def test_flag_of_a_view_that_is_not_known_is_refused(tmp_path: Path) -> None:
    flags = b"}X\5\0\0\0scale\x88s"
    with pytest.raises(CheckpointError, match="'a' has the property 'scale', which is not known for its type"):
        read_bytes(wrap_in_torch_zip(pickle_tensor(b"K\0K\2\x85K\1\x85\x89N" + flags)), tmp_path)


def make_quantised() -> Any:
    return torch.quantize_per_tensor(torch.arange(6.0).reshape(2, 3), 0.1, 3, torch.qint8)


def make_distributed() -> Any:
    """Return what a tensor of several devices is saved as: an object of a class around this device's part."""
    from torch._utils import _rebuild_wrapper_subclass

    return PickledCall(
        torch._tensor._rebuild_from_type_v2,
        _rebuild_wrapper_subclass,
        OrderedDict,
        (OrderedDict, torch.float32, torch.Size([2, 3]), (3, 1), 0, None, None, False),
        {"_local_tensor": torch.ones(1, 3)},
    )


UNREAD: dict[str, tuple[Callable[[], Any], str, tuple[int, ...]]] = {
    "quantised": (make_quantised, "a quantised tensor", (2, 3)),
    "sparse": (lambda: torch.eye(3).to_sparse(), "a sparse tensor", (3, 3)),
    "compressed": (lambda: torch.eye(3).to_sparse_csr(), "a sparse tensor", (3, 3)),
    "meta": (lambda: torch.empty(2, 3, device="meta"), "a tensor on the meta device", (2, 3)),
    "distributed": (make_distributed, "a tensor of the class collections.OrderedDict", (2, 3)),
    "half complex": (lambda: torch.zeros(2, dtype=torch.complex32), "a tensor of a type that NumPy lacks", (2,)),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "what torch's function '_rebuild_nested_tensor' makes",
        (),
    ),
    "object": (lambda: deque([PickledResult(OrderedDict, (), {"w": torch.ones(2)})]), "", ()),
}
"""What PyTorch saves that is not an array of numbers: how it is made, what it is called, and its shape."""


@pytest.mark.parametrize("kind", [kind for kind in UNREAD if kind != "object"])
@pytest.mark.filterwarnings("ignore")
def test_tensor_that_is_not_read_is_named(kind: str, tmp_path: Path) -> None:
    make, what, shape = UNREAD[kind]
    checkpoint = save({"w": make(), "a": torch.ones(2)}, tmp_path)
    assert checkpoint.tensors["w"].shape == shape
    assert_named(checkpoint, "w", what)
    assert checkpoint.tensors["a"].read().tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensor_of_before_version_1_6_is_named(tmp_path: Path) -> None:
    assert_named(save({"w": make_quantised()}, tmp_path, zipped=False), "w", "a quantised tensor")


def test_object_with_tensors_in_it_is_named(tmp_path: Path) -> None:
    scheduler = PickledResult(Fraction, (), {"best": torch.ones(2)})  # an object of a class that is no module
    checkpoint = save({"scheduler": scheduler, "other": torch.Generator, "a": torch.ones(2)}, tmp_path)
    assert list(checkpoint.tensors) == ["scheduler", "a"]
    assert_named(checkpoint, "scheduler", "an object of")


def test_module_among_tensors_is_read(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    checkpoint = save({"model": model, "a": torch.ones(2)}, tmp_path)
    assert list(checkpoint.tensors) == ["model.weight", "model.bias", "a"]
    assert checkpoint.tensors["model.weight"].read().tobytes() == model.weight.detach().numpy().tobytes()


def test_tensors_of_other_devices_are_read(tmp_path: Path) -> None:
    from torch._utils import _rebuild_device_tensor_from_cpu_tensor, _rebuild_device_tensor_from_numpy

    array = np.arange(3, dtype=np.float32)
    saved = {
        "numpy": PickledCall(_rebuild_device_tensor_from_numpy, array, torch.bfloat16, "xla:0", False),
        "cpu": PickledCall(_rebuild_device_tensor_from_cpu_tensor, torch.arange(3.0), torch.float32, "hpu:0", False),
    }
    assert_read(save(saved, tmp_path), {"numpy": array.astype(ml_dtypes.bfloat16), "cpu": array})


@pytest.mark.parametrize("zipped", [True, False])
def test_expanded_and_overlapping_views_are_read(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(6.0)
    views = {"e": torch.ones(1).expand(200, 300), "r": base[:3, None].expand(3, 4), "u": base.unfold(0, 3, 1)}
    assert_read(save(views, tmp_path, zipped), {name: to_array(view) for name, view in views.items()})


def test_expanded_view_beyond_the_bound_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'w' claims the shape \(100000, 100000\), which takes 40,000,000,000"):
        save({"w": torch.ones(1).expand(100_000, 100_000)}, tmp_path)


def test_three_models_that_share_their_storages_are_read(tmp_path: Path) -> None:
    state = {"a": torch.arange(9000.0), "b": torch.ones(2)}
    checkpoint = save({f"model_{index}": dict(state) for index in range(3)} | {"same": state}, tmp_path)
    assert len(checkpoint.tensors) == 8
    for name in ("model_2.a", "same.a"):
        assert checkpoint.tensors[name].read().tobytes() == state["a"].numpy().tobytes()


@pytest.mark.parametrize(("size", "limit"), [(1000, 2**28), (2**24, 32 * 2**24)])
def test_arrays_that_share_bytes_add_up_within_bounds(size: int, limit: int) -> None:
    half = Tensor((limit // 2,), np.dtype(np.uint8), lambda: np.zeros(1))
    one = Tensor((1,), np.dtype(np.uint8), lambda: np.zeros(1))
    check_total_size("w", [half, half], size)
    with pytest.raises(CheckpointError, match="its arrays take"):
        check_total_size("w", [half, half, one], size)


def test_one_mapping_under_two_names_is_read_under_both(tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    assert list(save({"model": state, "ema": state}, tmp_path).tensors) == ["model.a", "ema.a"]


def test_stride_of_an_axis_of_one_can_be_anything(tmp_path: Path) -> None:
    stride = b"\x8a\x09" + (2**70).to_bytes(9, "little", signed=True)
    for wrap in WRAPPERS:
        checkpoint = read_bytes(wrap(pickle_tensor(b"K\0K\1K\2\x86" + stride + b"K\1\x86\x89N")), tmp_path)
        assert_read(checkpoint, {"a": np.zeros((1, 2), np.float32)})


def test_view_of_a_storage_of_before_version_1_6_starts_where_it_should(tmp_path: Path) -> None:
    """Until version 1.6 a storage could be a part of another one: of its numbers, here four from the fifth on."""
    data = (
        b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n("
        b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\x0a(X\1\0\0\0vK\4K\4ttQ"
    )
    ten = np.arange(10, dtype=np.float32).tobytes()

    def wrap(view: bytes) -> bytes:
        legacy = wrap_in_torch_legacy(data + view + b"tRs.")
        return legacy[: -8 - 16] + struct.pack("<q", 10) + ten

    assert_read(read_bytes(wrap(b"K\1K\3\x85K\1\x85\x89N"), tmp_path), {"a": np.array([5, 6, 7], np.float32)})
    with pytest.raises(CheckpointError, match="takes bytes 16 to 36 of its storage"):
        read_bytes(wrap(b"K\0K\5\x85K\1\x85\x89N"), tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_file_of_before_version_1_6_is_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    state = {"w": torch.arange(6.0).reshape(2, 3)}
    assert_read(save(state, tmp_path, zipped=False, protocol=protocol), {"w": state["w"].numpy()})


@pytest.mark.parametrize("zipped", [True, False])
def test_empty_tensors_are_read(zipped: bool, tmp_path: Path) -> None:
    state = {"a": torch.zeros(0), "b": torch.zeros(0, 3), "c": torch.ones(4, 0, 2), "s": torch.tensor(3.0)}
    assert_read(save(state, tmp_path, zipped), {name: to_array(tensor) for name, tensor in state.items()})


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "saved",
    [
        {"a.b": np.ones(2, np.float32), "a": {"b": np.zeros(2, np.float32)}},
        {1: np.ones(2, np.float32), "1": np.zeros(2, np.float32)},
        {"a": [np.ones(2, np.float32)], "a.0": np.ones(2, np.float32)},
    ],
)
def test_two_arrays_of_one_name_are_refused(saved: dict[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds two arrays that are both called '(a\.b|1|a\.0)'"):
        read_bytes(pickle.dumps(saved, 4), tmp_path)


def test_keys_that_are_no_text_are_part_of_the_name(tmp_path: Path) -> None:
    one = np.ones(1, np.float32)
    saved = {b"b": one, ("a", "w"): one, 3: one, None: one, "list": [one, {"x": one}], "deque": deque([one])}
    names = ["b", "a.w", "3", "None", "list.0", "list.1.x", "deque.0"]
    assert_read(read_bytes(pickle.dumps(saved, 4), tmp_path), dict.fromkeys(names, one))


def test_python_2_passes_the_pairs_of_an_ordered_dict_as_an_argument(tmp_path: Path) -> None:
    pairs = [["a", np.ones(2, np.float32)], ["b", np.zeros(2, np.float32)]]
    data = pickle.dumps({"state_dict": PickledCall(OrderedDict, pairs)}, 2)
    assert list(read_bytes(data, tmp_path).tensors) == ["state_dict.a", "state_dict.b"]


def test_mapping_of_any_class_is_read(tmp_path: Path) -> None:
    saved = PickledResult(dict, (), None, None, iter([("a", np.ones(2, np.float32))]))
    data = pickle.dumps(saved, 4).replace(b"builtins", b"easydict").replace(b"dict", b"Easy", 1)
    assert list(read_bytes(data, tmp_path).tensors) == ["a"]


# -- NumPy and Paddle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_empty_arrays_and_all_types_in_a_pickle_are_read(protocol: int, tmp_path: Path) -> None:
    arrays: dict[str, Array] = {f"empty{len(shape)}": np.zeros(shape, np.float32) for shape in ((0,), (2, 0), (0, 3))}
    for kind in ("b1", "i1", "i8", "u1", "u4", "u8", "f2", ">f4", ">i2", "c8", "c16"):
        arrays[kind] = np.array([[0, 1, 1], [1, 0, 1]]).astype(kind)
    for kind in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        arrays[kind] = np.arange(3).astype(getattr(ml_dtypes, kind))
    expected = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    assert_read(read_bytes(pickle.dumps(arrays, protocol), tmp_path), expected)


@pytest.mark.parametrize("array", [np.array([None, "a"]), np.array(["ab"]), np.zeros(2, [("a", "f4")])])
def test_pickled_array_of_no_numbers_is_named(array: Array, tmp_path: Path) -> None:
    checkpoint = read_bytes(pickle.dumps({"w": array, "a": np.ones(2, np.float32)}, 4), tmp_path)
    assert checkpoint.tensors["w"].shape == array.shape
    assert_named(checkpoint, "w", "an array of NumPy's type")


def test_long_array_in_protocol_2_is_read_in_pieces(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, 700_001).astype(np.uint8)
    assert_read(read_bytes(pickle.dumps({"w": array}, 2), tmp_path), {"w": array})


def test_complex_and_big_endian_arrays_in_an_archive_are_read(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"c": np.array([1 + 2j]), "b": np.array([[1, 2], [3, 4]], ">f4", order="F")}
    np.savez(tmp_path / "w.npz", **arrays)
    expected = {"c": arrays["c"], "b": np.array([[1, 2], [3, 4]], np.float32)}
    assert_read(registry.read(tmp_path / "w.npz"), expected)


def test_structure_of_two_bytes_in_an_archive_is_not_bfloat16(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.zeros(2, [("a", "u1"), ("b", "u1")]))
    with pytest.raises(CheckpointError, match="which is not a numeric type"):
        registry.read(tmp_path / "w.npz")


def test_comment_of_an_archive_can_be_anything(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.ones(2))
    with zipfile.ZipFile(tmp_path / "w.npz", "a") as archive:
        archive.comment = b"kept by another program"
    assert list(registry.read(tmp_path / "w.npz").tensors) == ["w"]


# -- safetensors --------------------------------------------------------------------------------------------------


def make_safetensors(header: str, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + data


def test_metadata_that_are_null_are_none(tmp_path: Path) -> None:
    header = '{"__metadata__": null, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    checkpoint = read_bytes(make_safetensors(header, bytes(4)), tmp_path)
    assert_read(checkpoint, {"w": np.zeros(1, np.float32)})
    assert checkpoint.metadata == {}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("U16", "uint16"),
        ("U32", "uint32"),
        ("U64", "uint64"),
        ("C64", "complex64"),
        ("F8_E4M3", "float8_e4m3fn"),
        ("F8_E5M2", "float8_e5m2"),
        ("F8_E8M0", "float8_e8m0fnu"),
    ],
)
def test_every_type_of_safetensors_that_numpy_can_have_is_read(code: str, name: str, tmp_path: Path) -> None:
    array = np.array([1, 2, 4]).astype(getattr(ml_dtypes, name, None) or name)
    header = f'{{"w": {{"dtype": "{code}", "shape": [3], "data_offsets": [0, {array.nbytes}]}}}}'
    assert_read(read_bytes(make_safetensors(header, array.tobytes()), tmp_path), {"w": array})


@pytest.mark.parametrize("code", ["F4", "F6_E2M3", "F6_E3M2"])
def test_type_of_safetensors_that_numpy_lacks_is_named(code: str, tmp_path: Path) -> None:
    header = f'{{"w": {{"dtype": "{code}", "shape": [8], "data_offsets": [0, {4 if code == "F4" else 6}]}}}}'
    checkpoint = read_bytes(make_safetensors(header, bytes(4 if code == "F4" else 6)), tmp_path)
    assert checkpoint.tensors["w"].shape == (8,)
    assert_named(checkpoint, "w", f"of the type {code}")


def test_two_arrays_of_one_name_in_a_header_are_refused(tmp_path: Path) -> None:
    item = '"w": {"dtype": "F32", "shape": [1], "data_offsets": [%d, %d]}'
    header = f"{{{item % (0, 4)}, {item % (4, 8)}}}"
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        read_bytes(make_safetensors(header, bytes(8)), tmp_path)


# -- checksums, folders and pipes ---------------------------------------------------------------------------------


def change_checksums(kind: str, path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the digits of the checksums in a file that was written here; the length of a header is mended."""
    file = path / "_CHECKPOINT_METADATA" if path.is_dir() else path
    data = file.read_bytes()
    at = data.index(b'"crc32": "') + len(b'"crc32": "')
    end = data.index(b'"', at)
    changed = data[:at] + change(data[at:end]) + data[end:]
    if kind == "safetensors":
        (length,) = struct.unpack("<Q", data[:8])
        changed = struct.pack("<Q", length + len(changed) - len(data)) + changed[8:]
    file.write_bytes(changed)


@pytest.mark.parametrize("change", [lambda digits: digits[:-8], lambda digits: b"x" + digits[1:], lambda digits: b""])
@pytest.mark.parametrize("kind", ["safetensors", "paddle", "orbax"])
def test_checksums_that_are_not_one_for_each_array_do_not_disable_all(
    kind: str, change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    if kind == "orbax":
        required("flax")
    arrays = {name: np.ones(3, np.float32) for name in "ab"}
    tensors = {name: Tensor(array.shape, array.dtype, array.copy) for name, array in arrays.items()}
    registry.write(tmp_path / "w", kind, tensors, {})
    change_checksums(kind, tmp_path / "w", change)
    with pytest.raises(CheckpointError, match="expected the checksums of 2 arrays, found '"):
        registry.read(tmp_path / "w")


@pytest.mark.parametrize("name", ["w.pth", "w"])
def test_pipe_as_source_is_refused_at_once(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / name, os.O_WRONLY)
    os.write(writer, bytes(100))  # with a writer and enough bytes, a reader that opens the pipe does not wait for good
    with pytest.raises(CheckpointError, match="is neither a file nor a folder"):
        registry.read(tmp_path / name)


@pytest.mark.parametrize("place", ["a/0", "_METADATA", "other"])
def test_pipe_in_a_folder_is_refused_at_once(place: str, tmp_path: Path) -> None:
    required("flax")
    ones = np.ones(3, np.float32)
    registry.write(tmp_path / "w", "orbax", {"a": Tensor(ones.shape, ones.dtype, ones.copy)}, {})
    (tmp_path / "w" / place).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "w" / place)
    with pytest.raises(
        CheckpointError,
        match=r"neither a file nor a folder|without a checkpoint of a known name: it holds '_CHECKPOINT_METADATA', 'a/",
    ):
        registry.read(tmp_path / "w")


def test_folder_of_many_others_is_searched_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required("flax")
    from resnet_spec.checkpoints.formats import orbax_reader

    monkeypatch.setattr(orbax_reader, "_MAX_FOLDERS", 20)
    for outer in range(30):
        for inner in range(30):
            (tmp_path / str(outer) / str(inner)).mkdir(parents=True)
    opened: list[object] = []
    scan = os.scandir

    def recording_scan(path: Any) -> Any:
        opened.append(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", recording_scan)
    with pytest.raises(CheckpointError, match="is a folder without a checkpoint of a known name"):
        registry.read(tmp_path)
    assert len(opened) < 60


@pytest.mark.parametrize("name", ["a b#c?d%20", "é"])
def test_path_of_a_folder_can_have_any_character(name: str, tmp_path: Path) -> None:
    required("flax")
    import orbax.checkpoint

    array = np.arange(3, dtype=np.float32)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "plain", {"w": array})
    (tmp_path / "plain").rename(tmp_path / name)
    assert_read(registry.read(tmp_path / name), {"w": array})
