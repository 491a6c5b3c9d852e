"""Attacks on the readers of msgpack, ONNX, HDF5 and folders of files, for ``shared.hostile_checkpoints``."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import save

from shared.file_corruption import corrupt, draw_count, pick

Random = np.random.Generator
Attack = Callable[[Random, Path], None]

SIZES = [0, 1, 2, 3, 255, 2**16, 2**31, 2**32 - 1]
NAMES = ["", "w", "a.b", "..", "a/b", "a\nb", "\x1b[2J", "é" * 40, "w" * 1000, "w" * 3000]


# -- msgpack ------------------------------------------------------------------------------------------------------


def pack_text(text: str) -> bytes:
    data = text.encode()
    return b"\xda" + struct.pack(">H", len(data)) + data


def pack_bytes(data: bytes) -> bytes:
    return b"\xc6" + struct.pack(">I", len(data)) + data


def pack_map(items: Sequence[tuple[bytes, bytes]], count: int | None = None) -> bytes:
    return b"\xdf" + struct.pack(">I", len(items) if count is None else count) + b"".join(k + v for k, v in items)


def pack_list(items: Sequence[bytes], count: int | None = None) -> bytes:
    return b"\xdd" + struct.pack(">I", len(items) if count is None else count) + b"".join(items)


def pack_extension(code: int, data: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(data), code) + data


def pack_number(number: int) -> bytes:
    return b"\xcf" + struct.pack(">Q", number % 2**64)


def pack_array(array: np.ndarray[Any, Any]) -> bytes:
    shape = pack_list([pack_number(size) for size in array.shape])
    return pack_extension(1, pack_list([shape, pack_text(array.dtype.name), pack_bytes(array.tobytes())]))


def pack_weights() -> bytes:
    """Return a valid file of nested mappings, one of whose arrays is in pieces."""
    random = np.random.default_rng(0)
    big = random.standard_normal((6, 50)).astype(np.float32)
    pieces = [pack_array(big.reshape(-1)[:100]), pack_array(big.reshape(-1)[100:])]
    number = [(pack_text(str(index)), pack_number(size)) for index, size in enumerate(big.shape)]
    chunked = [
        (pack_text("__msgpack_chunked_array__"), b"\xc3"),
        (pack_text("shape"), pack_map(number)),
        (pack_text("chunks"), pack_map([(pack_text(str(index)), piece) for index, piece in enumerate(pieces)])),
    ]
    arrays = [(pack_text(f"w{index}"), pack_array(random.standard_normal(40))) for index in range(20)]
    return pack_map([(pack_text("params"), pack_map([*arrays, (pack_text("big"), pack_map(chunked))]))])


def attack_msgpack_fields(random: Random, path: Path) -> None:
    """An array whose shape, type, bytes or extension is any value."""
    shape = pack_list(
        [pack_number(pick(random, [*SIZES, 2**62, 2**64 - 1])) for _ in range(int(random.integers(0, 40)))]
    )
    fields = [pack_list([pack_number(2)]), pack_text("float32"), pack_bytes(bytes(8))]
    for index in range(3):
        if random.random() < 0.4:
            other = [shape, pack_text(pick(random, NAMES)), pack_bytes(bytes(3)), b"\xc0", pack_list([], 2**32 - 1)]
            fields[index] = pick(random, other)
    array = pack_extension(int(pick(random, (1, 1, 1, 2, 3, -1, 9))), pack_list(fields))
    keys = [pack_text(pick(random, NAMES)), pack_number(3), b"\xc0", pack_list([]), pack_text("w")]
    path.write_bytes(pack_map([(pack_text("w"), pack_array(np.ones(3))), (pick(random, keys), array)]))


def attack_msgpack_counts(random: Random, path: Path) -> None:
    """Lengths of mappings, lists and bytes that the file does not hold, and nesting without end."""
    made = [
        pack_map([(pack_text("a"), b"\x01")], 2**32 - 1),
        pack_map([(pack_text("a"), pack_list([], 2**32 - 1))]),
        pack_map([(pack_text("a"), b"\xc6\xff\xff\xff\xff")]),
        b"\x81\xa1a" * draw_count(random, 18),
        b"\x81\xa1a" + b"\x91" * draw_count(random, 18),
        pack_map([(pack_text(str(index)), b"\x80") for index in range(draw_count(random, 17))]),
        pack_map([(pack_text(str(index)), pack_array(np.ones(1))) for index in range(draw_count(random, 15))]),
        pack_map([(pack_text("a"), b"\xc1")]),
    ]
    path.write_bytes(pick(random, made))


# -- ONNX ---------------------------------------------------------------------------------------------------------


def encode_varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data, number = data + bytes([number & 127 | 128]), number >> 7
    return data + bytes([number])


def encode_field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def encode_initializer(name: str, dims: Sequence[int], kind: int, data: bytes) -> bytes:
    fields = [encode_field(1, size) for size in dims]
    return b"".join([*fields, encode_field(2, kind), encode_field(8, name.encode()), encode_field(9, data)])


def encode_model(initializers: Sequence[bytes]) -> bytes:
    return encode_field(1, 8) + encode_field(7, b"".join(encode_field(5, item) for item in initializers))


def make_model() -> bytes:
    random = np.random.default_rng(0)
    arrays = {f"w{index}": random.standard_normal((4, 5)).astype(np.float32) for index in range(20)}
    return encode_model([encode_initializer(name, a.shape, 1, a.tobytes()) for name, a in arrays.items()])


def attack_onnx_fields(random: Random, path: Path) -> None:
    dims = [int(pick(random, [*SIZES, 2**62, 2**64 - 1])) for _ in range(int(random.integers(0, 80)))]
    items = [
        encode_initializer("a", (2,), 1, bytes(8)),
        encode_initializer(
            pick(random, NAMES), pick(random, ((2,), dims)), pick(random, (0, 1, 8, 16, 17, 99)), bytes(8)
        ),
        encode_field(8, b"packed") + encode_field(1, b"".join(map(encode_varint, dims))) + encode_field(14, 1),
        encode_field(1, 2) + encode_field(2, 1) + encode_field(8, b"floats") + encode_field(4, bytes(8)),
    ]
    path.write_bytes(encode_model(items[: int(random.integers(1, 5))]))


def attack_onnx_counts(random: Random, path: Path) -> None:
    """Lengths beyond the end, many empty fields, several graphs, and numbers of too many bytes."""
    made = [
        encode_field(1, 8) + encode_varint(7 << 3 | 2) + encode_varint(2**62),
        encode_field(1, 8) + b"\x3a\0" * draw_count(random, 20),
        encode_model([b""] * draw_count(random, 18)),
        encode_model([encode_initializer(str(n), (0,), 1, b"") for n in range(draw_count(random, 15))]),
        b"\x08" + b"\xff" * draw_count(random, 18),
        encode_model([encode_field(1, b"\x01" * draw_count(random, 18))]),
    ]
    path.write_bytes(pick(random, made))


# -- HDF5 ---------------------------------------------------------------------------------------------------------


@cache
def make_hdf5() -> bytes:
    """Return a valid file with plain and compressed arrays, as Keras names them."""
    import h5py

    buffer, random = io.BytesIO(), np.random.default_rng(0)
    with h5py.File(buffer, "w") as file:
        for index in range(6):
            group = file.create_group(f"layers/conv2d_{index}/vars")
            group.attrs["name"] = f"conv{index}"
            group["0"] = random.standard_normal((3, 3, 2, 4)).astype(np.float32)
            group.create_dataset("1", data=np.zeros(40, np.float32), compression="gzip", chunks=(10,))
    return buffer.getvalue()


def attack_hdf5_bytes(random: Random, path: Path) -> None:
    data = corrupt(random, make_hdf5())
    if random.random() < 0.5:
        path.write_bytes(data)
        return
    with zipfile.ZipFile(path, "w", pick(random, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", data)


def attack_hdf5_links(random: Random, path: Path) -> None:
    """Groups that hold themselves, links to other files, and arrays that are kept elsewhere."""
    import h5py

    with h5py.File(path, "w") as file:
        file["a/w"] = np.ones(3, np.float32)
        match int(random.integers(6)):
            case 0:
                file["a/itself"] = file["a"]
            case 1:
                file["b"] = h5py.ExternalLink("/etc/passwd", "/w")
            case 2:
                file["b"] = h5py.SoftLink("/a")
            case 3:
                file.create_dataset("b", (8,), "u1", external=[("/etc/passwd", 0, 8)])
            case 4:
                layout = h5py.VirtualLayout((8,), "f4")
                layout[:] = h5py.VirtualSource("other.h5", "w", (8,))
                file.create_virtual_dataset("b", layout)
            case _:
                group = file
                for level in range(int(random.integers(2, 200))):
                    group = group.create_group(str(level))
                group["w"] = np.ones(2)


def attack_hdf5_sizes(random: Random, path: Path) -> None:
    """Arrays that are far larger than the file, of which nothing or only zeros are stored, and odd types."""
    import h5py

    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3, np.float32)
        count = 2 ** int(random.integers(4, 44))
        match int(random.integers(4)):
            case 0:
                file.create_dataset("b", (count,), "f4", chunks=(min(count, 2**16),))
            case 1:
                file.create_dataset(
                    "b", (min(count, 2**22),), "f4", compression="gzip", data=np.zeros(min(count, 2**22))
                )
            case 2:
                for index in range(draw_count(random, 10)):
                    file.create_dataset(str(index), (0,), "f4")
            case _:
                file.create_dataset("b", data=["text", "another"], dtype=h5py.string_dtype())
                file.create_dataset("c", (2,), np.dtype([("x", "f4"), ("y", "i4")]))


# -- folders ------------------------------------------------------------------------------------------------------


def write_shards(path: Path, index: bytes, shards: Mapping[str, bytes]) -> None:
    path.mkdir()
    (path / "model.safetensors.index.json").write_bytes(index)
    for name, data in shards.items():
        (path / name).write_bytes(data)


def attack_shards(random: Random, path: Path) -> None:
    """An index that names files elsewhere, arrays that are not there, or itself; and corrupted files."""
    arrays = {f"w{index}": np.full(5, index, np.float32) for index in range(6)}
    shards = {
        "a.safetensors": save(dict(list(arrays.items())[:3])),
        "b.safetensors": save(dict(list(arrays.items())[3:])),
    }
    names = {name: "ab"[index // 3] + ".safetensors" for index, name in enumerate(arrays)}
    wrong = [
        "../a.safetensors",
        "/etc/passwd",
        "",
        ".",
        "..",
        "model.safetensors.index.json",
        "c.safetensors",
        "x\ny",
        3,
        None,
    ]
    if random.random() < 0.4:
        names[pick(random, ("w0", "w5", "other"))] = pick(random, wrong)
    index = json.dumps({"metadata": {}, "weight_map": names}).encode()
    if random.random() < 0.3:
        index = corrupt(random, index)
    if random.random() < 0.3:
        shards["a.safetensors"] = corrupt(random, shards["a.safetensors"])
    write_shards(path, index, shards)


@cache
def make_distributed() -> dict[str, bytes]:
    """Return the files of a valid distributed checkpoint, as PyTorch writes it."""
    import torch
    from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

    state = {"model": {f"w{index}": torch.arange(20.0).reshape(4, 5) + index for index in range(4)}, "epoch": 3}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a single process
        save_distributed(state, checkpoint_id=folder, no_dist=True)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def attack_distributed(random: Random, path: Path) -> None:
    files = dict(make_distributed())
    name = pick(random, sorted(files))
    path.mkdir()
    for file, data in files.items():
        if file != name or random.random() < 0.9:
            (path / file).write_bytes(corrupt(random, data) if file == name else data)


def attack_valid(make: Callable[[], bytes]) -> Attack:
    """Return an attack that corrupts the bytes of a valid file."""
    return lambda random, path: write(path, corrupt(random, make()))


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


CONTAINER_ATTACKS: Mapping[str, list[Attack]] = {
    "msgpack": [attack_msgpack_fields, attack_msgpack_counts, attack_valid(pack_weights)],
    "onnx": [attack_onnx_fields, attack_onnx_counts, attack_valid(make_model)],
    "keras": [attack_hdf5_bytes, attack_hdf5_links, attack_hdf5_sizes],
    "shards": [attack_shards] * 4,
    "distributed": [attack_distributed] * 6,
}
"""The attacks by format."""
