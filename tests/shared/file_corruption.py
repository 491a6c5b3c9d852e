"""Checkpoints as others write them, and ways to corrupt them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Tensor
from resnet_spec.weights.canonical import Array


def arrays() -> dict[str, Array]:
    """About a megabyte of weights, large arrays and small."""
    random = np.random.default_rng(0)
    shapes = {f"layer{stage}.0.conv{n}.weight": (48, 40, 3, 3) for stage in (1, 2) for n in (1, 2)}
    norms = {f"layer{stage}.0.bn{n}.{last}": (48,) for stage in (1, 2) for n in (1, 2) for last in ("weight", "bias")}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in {**shapes, **norms}.items()}


def tensors() -> dict[str, Tensor]:
    """The same, as a checkpoint's."""
    return {name: Tensor(array.shape, array.dtype, array.copy) for name, array in arrays().items()}


def _ours(kind: str) -> Callable[[Path], None]:
    return lambda path: registry.write(path, kind, tensors(), {"spec": "resnet18"})


def _torch(path: Path, zipped: bool = True) -> None:
    import torch

    state = {name: torch.from_numpy(array) for name, array in arrays().items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)


def _paddle(path: Path, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps({**arrays(), "StructuredToParameterName@@": {}}, protocol))


def _npz(path: Path) -> None:
    np.savez_compressed(path.with_suffix(".npz"), **arrays())  # type: ignore[arg-type]
    path.with_suffix(".npz").replace(path)


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "our safetensors": _ours("safetensors"),
    "our pth": _ours("torch"),
    "our pdparams": _ours("paddle"),
    "our npz": _ours("npz"),
    "safetensors": lambda path: save_file(arrays(), path),
    "torch": _torch,
    "torch of before 1.6": lambda path: _torch(path, zipped=False),
    "paddle": _paddle,
    "paddle in protocol 2": lambda path: _paddle(path, protocol=2),
    "numpy, compressed": _npz,
}


def truncated(data: bytes, random: np.random.Generator) -> bytes:
    """Cut at any place, but in half of the cases near the start or the end."""
    near = int(random.integers(1, 3000))
    return data[: [int(random.integers(len(data))), near, len(data) - near, near // 100][random.integers(4)]]


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    """One bit or a few turned round, in half of the cases where headers and directories are."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(data)))
        if random.random() < 0.5:
            at = int(random.integers(4000)) * (1 if random.random() < 0.5 else -1)
        changed[at % len(data)] ^= 1 << int(random.integers(8))
    return bytes(changed)


LIES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**33, 2**40, 2**63 - 1, 2**64 - 1]


def lying(data: bytes, random: np.random.Generator) -> bytes:
    """A number that says something else: of four or eight bytes, or in digits, where headers and directories are."""
    changed = bytearray(data)
    start = 0 if random.random() < 0.6 else max(0, len(data) - 3000)
    lie = LIES[random.integers(len(LIES))]
    digits = [at for at in range(start, min(len(data), start + 3000)) if 48 <= data[at] < 58]
    if digits and random.random() < 0.5:
        at = digits[random.integers(len(digits))]
        changed[at : at + 1] = str(lie).encode()[: int(random.integers(1, 20))]
    else:
        at = start + int(random.integers(3000))
        form = "<I" if random.random() < 0.5 else "<Q"
        changed[at : at + struct.calcsize(form)] = struct.pack(form, lie % 2 ** (8 * struct.calcsize(form)))
    return bytes(changed)


# -- hostile pickles ----------------------------------------------------------------------------------------------


class Calls:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Pickles that would run code, hang, or allocate, if they were let; what is run makes ``canary``."""
    import os
    import subprocess

    touch = f"open({str(canary)!r}, 'w').close()"
    for protocol in (2, 4):
        for payload in (Calls(exec, touch), Calls(eval, touch), Calls(os.system, f"touch {canary}")):
            yield "a call", pickle.dumps(payload, protocol)
            yield "a call among tensors", pickle.dumps({"a": payload, "b": np.zeros(3, np.float32)}, protocol)
            yield "a call as a name", pickle.dumps({"weight": 1, payload: 2}, protocol)
            yield "a call as an array's bytes", pickle.dumps({"a": (payload, [payload])}, protocol)
        yield "a process", pickle.dumps({"a": Calls(subprocess.call, ["touch", str(canary)])}, protocol)
        yield "an attribute", pickle.dumps({"a": Calls(getattr, Calls(__import__, "os"), "system")}, protocol)
        yield "a file opened", pickle.dumps({"a": Calls(open, str(canary), "w")}, protocol)
    yield "an old instance", b"(S'touch " + str(canary).encode() + b"'\nios\nsystem\n."
    yield "an old object", b"\x80\x02(cos\nsystem\nX\x01\0\0\0ao."
    yield "an extension", b"\x80\x02\x82\x01."
    yield "a state set on a module", b"\x80\x02cos\nenviron\n}X\x01\0\0\0aX\x01\0\0\0bsb."
    yield "a memo's number", b"\x80\x02}r\xff\xff\xff\x7f."
    yield "bytes that are not there", b"\x80\x04}(X\x01\0\0\0a\x8e" + b"\xff" * 7 + b"\x7f" + b"us."
    yield "text that is not there", b"\x80\x04}(\x8d" + b"\xff" * 7 + b"\x7f" + b"us."
    yield "a frame that is not there", b"\x80\x04\x95" + b"\xff" * 8 + b"}."
    yield "a number of a gigabyte", b"\x80\x02\x8b\xff\xff\xff\x3f."
    yield "a number of many digits", b"\x80\x02\x8b\x00\x00\x10\x00" + b"\x01" * 2**20 + b"."
    yield "tuples in tuples", b"\x80\x02" + b")" + b"\x85" * 500_000 + b"."
    yield "lists in lists", b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b"."
    yield "many lists", b"\x80\x02(" + b"]" * 1_000_000 + b"l."
    yield "many dictionaries", b"\x80\x02(" + b"}" * 1_000_000 + b"l."
    yield "many marks", b"\x80\x02" + b"(" * 1_000_000 + b"."
    yield "a name that hashes for ever", b"\x80\x02}" + b")q\0" + b"h\0h\0\x86q\0" * 5000 + b"K\1s."
    yield (
        "a mapping within itself",
        b"\x80\x02}q\0(" + b"".join(b"X\1\0\0\0" + bytes([97 + i]) + b"h\0" for i in range(26)) + b"u.",
    )
    yield "nothing to take", b"\x80\x02000."
    yield "a mark that is not there", b"\x80\x02t."
    yield "a memo that is not there", b"\x80\x02h\x05."
    yield "no end", b"\x80\x02}q\0"
    for shape, why in (
        ((2**40,), "too large"),
        ((2**20, 2**20), "too large"),
        ((-1,), "negative"),
        ("x", "no shape"),
        ((1.5,), "no shape"),
    ):
        yield f"an array whose shape is {why}", pickle.dumps({"a": _array(shape)}, 4)


def _array(shape: Any) -> Any:
    """An array that claims a shape."""
    reduced: Any = np.zeros(4, np.float32).__reduce__()
    make, arguments, state = reduced
    return Claims(make, arguments, (state[0], shape, *state[2:]))


class Claims:
    """Pickles as a function's result with a state."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\4tQ"
TENSORS = [
    ("a shape beyond the storage", b"K\0K\x05\x85K\1\x85\x89N"),
    ("a shape beyond the memory", b"K\0\x8a\x06\0\0\0\0\0\x01\x85K\1\x85\x89N"),
    ("strides beyond the storage", b"K\0K\2\x85J\xff\xff\xff\x7f\x85\x89N"),
    ("a negative stride", b"K\0K\2\x85J\xff\xff\xff\xff\x85\x89N"),
    ("a negative offset", b"J\xff\xff\xff\xffK\2\x85K\1\x85\x89N"),
    ("an offset beyond the storage", b"K\3K\2\x85K\1\x85\x89N"),
    ("a stride of zero and a vast shape", b"K\0J\0\0\0\x7f\x85K\0\x85\x89N"),
    ("fewer strides than axes", b"K\0K\1K\1\x86K\1\x85\x89N"),
    ("text for a shape", b"K\0X\1\0\0\0aK\1\x85\x89N"),
    ("nothing", b""),
]
"""Tensors that lie about how they lie in their storage, as pickled."""


def torch_zip(data: bytes) -> bytes:
    """A PyTorch archive with this pickle, sound in all else."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", np.zeros(4, np.float32).tobytes())
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def torch_legacy(data: bytes) -> bytes:
    """A PyTorch file of before 1.6 with this pickle, sound in all else."""
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return start + data + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + np.zeros(4, np.float32).tobytes()


def lying_tensor(said: bytes) -> bytes:
    """A state dict of one tensor, which lies so about its storage."""
    return b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + said + b"tRs."
