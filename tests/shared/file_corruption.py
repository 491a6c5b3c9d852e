"""Checkpoints as several programs write them, ways to corrupt them, and pickles that attack their reader."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Tensor
from resnet_spec.weights.canonical import Array


def make_arrays() -> dict[str, Array]:
    """Return about a megabyte of weights, in large and small arrays."""
    random = np.random.default_rng(0)
    convs = {f"layer{stage}.0.conv{n}.weight": (48, 40, 3, 3) for stage in (1, 2) for n in (1, 2)}
    norms = {f"layer{stage}.0.bn{n}.{last}": (48,) for stage in (1, 2) for n in (1, 2) for last in ("weight", "bias")}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in {**convs, **norms}.items()}


def make_tensors() -> dict[str, Tensor]:
    """Return the same arrays as a checkpoint's tensors."""
    return {name: Tensor(array.shape, array.dtype, array.copy) for name, array in make_arrays().items()}


def _our_writer(kind: str) -> Callable[[Path], None]:
    return lambda path: registry.write(path, kind, make_tensors(), {"spec": "resnet18"})


def _write_torch(path: Path, zipped: bool = True) -> None:
    import torch

    state = {name: torch.from_numpy(array) for name, array in make_arrays().items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)


def _write_paddle(path: Path, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps({**make_arrays(), "StructuredToParameterName@@": {}}, protocol))


def _write_npz(path: Path) -> None:
    np.savez_compressed(path.with_suffix(".npz"), **make_arrays())  # type: ignore[arg-type]
    path.with_suffix(".npz").replace(path)


def _write_msgpack(path: Path) -> None:
    from flax import serialization

    path.write_bytes(serialization.msgpack_serialize(make_arrays()))


def _write_onnx(path: Path) -> None:
    import onnx

    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in make_arrays().items()]
    graph = onnx.helper.make_graph([], "g", [], [], initializer=tensors)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


def _write_hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in make_arrays().items():
            file[name] = array


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "our safetensors": _our_writer("safetensors"),
    "our pth": _our_writer("torch"),
    "our pdparams": _our_writer("paddle"),
    "our npz": _our_writer("npz"),
    "safetensors": lambda path: save_file(make_arrays(), path),
    "torch": _write_torch,
    "torch of before 1.6": lambda path: _write_torch(path, zipped=False),
    "paddle": _write_paddle,
    "paddle in protocol 2": lambda path: _write_paddle(path, protocol=2),
    "numpy, compressed": _write_npz,
    "flax": _write_msgpack,
    "onnx": _write_onnx,
    "h5py": _write_hdf5,
}
"""Functions that write the arrays to a path. The names are part of the tests' random seeds."""


def truncate(data: bytes, random: np.random.Generator) -> bytes:
    """Cut a file off at any place; mostly near its start or its end."""
    margin = int(random.integers(1, 3000))
    return data[: [int(random.integers(len(data))), margin, len(data) - margin, margin // 100][random.integers(4)]]


def flip_bits(data: bytes, random: np.random.Generator) -> bytes:
    """Flip one to five bits, half of them near the start or the end, where headers and directories are."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(data)))
        if random.random() < 0.5:
            at = int(random.integers(4000)) * (1 if random.random() < 0.5 else -1)
        changed[at % len(data)] ^= 1 << int(random.integers(8))
    return bytes(changed)


FALSE_NUMBERS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**33, 2**40, 2**63 - 1, 2**64 - 1]


def replace_number(data: bytes, random: np.random.Generator) -> bytes:
    """Put a false number, of four or eight bytes or in digits, where headers and directories are."""
    changed = bytearray(data)
    start = 0 if random.random() < 0.6 else max(0, len(data) - 3000)
    number = FALSE_NUMBERS[random.integers(len(FALSE_NUMBERS))]
    digits = [at for at in range(start, min(len(data), start + 3000)) if chr(data[at]) in "0123456789"]
    if digits and random.random() < 0.5:
        at = digits[random.integers(len(digits))]
        changed[at : at + 1] = str(number).encode()[: int(random.integers(1, 20))]
    else:
        at = start + int(random.integers(3000))
        form = "<I" if random.random() < 0.5 else "<Q"
        size = struct.calcsize(form)
        changed[at : at + size] = struct.pack(form, number % 2 ** (8 * size))
    return bytes(changed)


def pick(random: np.random.Generator, options: Any) -> Any:
    return options[int(random.integers(len(options)))]


def draw_count(random: np.random.Generator, power: int) -> int:
    """Return a number up to two to a power. Its digits are as likely to be few as many, since large files take long."""
    return int(2 ** random.uniform(0, power))


def corrupt(random: np.random.Generator, data: bytes) -> bytes:
    """Damage bytes at random places, as a disk or a program would."""
    for _ in range(int(random.integers(1, 4))):
        data = pick(random, (truncate, flip_bits, replace_number))(data + bytes(1), random)
    return data


# -- hostile pickles ----------------------------------------------------------------------------------------------


class PickledCall:
    """An object whose pickle calls a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def generate_hostile_pickles(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a description and a pickle that would run code, hang, or use much memory in an unsafe reader.

    Code that is run creates the file ``canary``.
    """
    touch = f"open({str(canary)!r}, 'w').close()"
    for protocol in (2, 4):
        for payload in (PickledCall(exec, touch), PickledCall(eval, touch), PickledCall(os.system, f"touch {canary}")):
            yield "a call", pickle.dumps(payload, protocol)
            yield "a call among tensors", pickle.dumps({"a": payload, "b": np.zeros(3, np.float32)}, protocol)
            yield "a call as a key", pickle.dumps({"weight": 1, payload: 2}, protocol)
            yield "a call as an array's bytes", pickle.dumps({"a": (payload, [payload])}, protocol)
        yield "a subprocess", pickle.dumps({"a": PickledCall(subprocess.call, ["touch", str(canary)])}, protocol)
        yield (
            "an attribute of a module",
            pickle.dumps({"a": PickledCall(getattr, PickledCall(__import__, "os"), "system")}, protocol),
        )
        yield "an opened file", pickle.dumps({"a": PickledCall(open, str(canary), "w")}, protocol)
    yield "the opcode INST", b"(S'touch " + str(canary).encode() + b"'\nios\nsystem\n."
    yield "the opcode OBJ", b"\x80\x02(cos\nsystem\nX\x01\0\0\0ao."
    yield "the opcode EXT1", b"\x80\x02\x82\x01."
    yield "a state set on a global", b"\x80\x02cos\nenviron\n}X\x01\0\0\0aX\x01\0\0\0bsb."
    yield "a large memo index", b"\x80\x02}r\xff\xff\xff\x7f."
    yield "a length beyond the end, for bytes", b"\x80\x04}(X\x01\0\0\0a\x8e" + b"\xff" * 7 + b"\x7f" + b"us."
    yield "a length beyond the end, for text", b"\x80\x04}(\x8d" + b"\xff" * 7 + b"\x7f" + b"us."
    yield "a length beyond the end, for a frame", b"\x80\x04\x95" + b"\xff" * 8 + b"}."
    yield "an integer of a gigabyte", b"\x80\x02\x8b\xff\xff\xff\x3f."
    yield "an integer of a megabyte", b"\x80\x02\x8b\x00\x00\x10\x00" + b"\x01" * 2**20 + b"."
    yield "nested tuples", b"\x80\x02" + b")" + b"\x85" * 500_000 + b"."
    yield "nested lists", b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b"."
    yield "many lists", b"\x80\x02(" + b"]" * 1_000_000 + b"l."
    yield "many dictionaries", b"\x80\x02(" + b"}" * 1_000_000 + b"l."
    yield "many marks", b"\x80\x02" + b"(" * 1_000_000 + b"."
    yield "a key that takes forever to hash", b"\x80\x02}" + b")q\0" + b"h\0h\0\x86q\0" * 5000 + b"K\1s."
    yield (
        "a mapping that contains itself",
        b"\x80\x02}q\0(" + b"".join(b"X\1\0\0\0" + bytes([97 + i]) + b"h\0" for i in range(26)) + b"u.",
    )
    yield "POP on an empty stack", b"\x80\x02000."
    yield "TUPLE without a mark", b"\x80\x02t."
    yield "GET without a memo", b"\x80\x02h\x05."
    yield "no STOP", b"\x80\x02}q\0"
    for shape, why in (
        ((2**40,), "too large"),
        ((2**20, 2**20), "too large"),
        ((-1,), "negative"),
        ("x", "not a tuple"),
        ((1.5,), "not made of integers"),
    ):
        yield f"an array whose shape is {why}", pickle.dumps({"a": _claim_shape(shape)}, 4)


def _claim_shape(shape: Any) -> Any:
    """Return an object that is pickled as an array of four numbers with another shape."""
    reduced: Any = np.zeros(4, np.float32).__reduce__()
    function, arguments, state = reduced
    return PickledResult(function, arguments, (state[0], shape, *state[2:]))


class PickledResult:
    """An object whose pickle calls a function and sets a state on the result."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\4tQ"
FALSE_TENSORS = [
    ("a shape beyond the storage", b"K\0K\x05\x85K\1\x85\x89N"),
    ("a shape larger than memory", b"K\0\x8a\x06\0\0\0\0\0\x01\x85K\1\x85\x89N"),
    ("strides beyond the storage", b"K\0K\2\x85J\xff\xff\xff\x7f\x85\x89N"),
    ("a negative stride", b"K\0K\2\x85J\xff\xff\xff\xff\x85\x89N"),
    ("a negative offset", b"J\xff\xff\xff\xffK\2\x85K\1\x85\x89N"),
    ("an offset beyond the storage", b"K\3K\2\x85K\1\x85\x89N"),
    ("a stride of zero and a huge shape", b"K\0J\0\0\0\x7f\x85K\0\x85\x89N"),
    ("fewer strides than axes", b"K\0K\1K\1\x86K\1\x85\x89N"),
    ("text instead of a shape", b"K\0X\1\0\0\0aK\1\x85\x89N"),
    ("no fields", b""),
]
"""Pickled offsets, shapes and strides that do not fit the storage of four numbers."""


def wrap_in_torch_zip(data: bytes) -> bytes:
    """Return a PyTorch archive with this pickle that is otherwise valid."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", np.zeros(4, np.float32).tobytes())
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def wrap_in_torch_legacy(data: bytes) -> bytes:
    """Return a PyTorch file in the format before 1.6 with this pickle that is otherwise valid."""
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return start + data + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + np.zeros(4, np.float32).tobytes()


def pickle_tensor(view: bytes) -> bytes:
    """Return the pickle of a state dict with one tensor; ``view`` is its pickled offset, shape and strides."""
    return b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + view + b"tRs."
