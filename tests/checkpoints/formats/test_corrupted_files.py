"""A thousand corrupted checkpoints: each is refused or read right; none runs code, hangs, or takes twice its size in memory."""

from __future__ import annotations

import io
import pickle
import shutil
import signal
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import CheckpointError
from resnet_spec.weights.canonical import Array
from shared.file_corruption import (
    TENSORS,
    WRITERS,
    arrays,
    flipped,
    hostile,
    lying,
    lying_tensor,
    tensors,
    torch_legacy,
    torch_zip,
    truncated,
)
from shared.frameworks import required

torch = pytest.importorskip("torch")

EACH: dict[Callable[[bytes, np.random.Generator], bytes], int] = {truncated: 25, flipped: 45, lying: 30}
"""How many files of each writer are corrupted in each way."""

SECONDS = 5  # of a processor: a busy machine is no file that hangs
FEWEST = 2**20  # bytes of memory that a file may take, if it is smaller


@cache
def whole(writer: str, folder: Path) -> bytes:
    path = folder / "whole"
    WRITERS[writer](path)
    return path.read_bytes()


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Fails if what is done within takes more than twice ``size`` bytes of memory, or too long."""

    def late(*_: object) -> None:
        raise AssertionError(f"took more than {SECONDS} s of work")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert peak <= 2 * max(size, FEWEST), f"took {peak:,} bytes of memory for a file of {size:,}"


def read(path: Path) -> dict[str, Array] | None:
    """All arrays of a file, one at a time in memory while it is measured; None if it is refused."""
    try:
        with bounded(path.stat().st_size):
            checkpoint = registry.read(path)
            for tensor in checkpoint.tensors.values():
                tensor.read()
    except CheckpointError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return None
    return {name: tensor.read() for name, tensor in checkpoint.tensors.items()}


class OnlyArrays(pickle.Unpickler):
    """Reads pickles of NumPy's arrays, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        } and name != "_reconstruct":
            raise pickle.UnpicklingError(name)
        return super().find_class(module, name)


def by_others(writer: str, data: bytes) -> dict[str, Array]:
    """What the format's own library makes of a file. Raises whatever it raises."""
    if "safetensors" in writer:
        return load(data)
    if "npz" in writer or "numpy" in writer:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return dict(file)
    if writer[0] == "p" or "pdparams" in writer:
        found = OnlyArrays(io.BytesIO(data), encoding="latin1").load()
        return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}
    return {name: tensor.numpy() for name, tensor in torch.load(io.BytesIO(data), weights_only=True).items()}


def as_they_lie(data: bytes, changed: bytes) -> dict[str, Array]:
    """The arrays where they lay before, with what was changed in their midst: these formats have no checksums."""
    found = {}
    for name, array in arrays().items():
        at = data.index(array.tobytes())
        found[name] = np.frombuffer(changed[at : at + array.nbytes], array.dtype).reshape(array.shape)
    return found


def same(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return one.keys() == other.keys() and all(
        (one[name].shape, one[name].dtype, one[name].tobytes())
        == (other[name].shape, other[name].dtype, other[name].tobytes())
        for name in one
    )


@pytest.mark.parametrize("corrupted", EACH, ids=lambda corrupted: corrupted.__name__)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_corrupted_file_is_refused_or_read_right(
    writer: str, corrupted: Callable[[bytes, np.random.Generator], bytes], tmp_path: Path
) -> None:
    """Read right is read as the format's own library reads it; or, where that refuses, as the arrays lie in the file."""
    data = whole(writer, tmp_path)
    path = tmp_path / "w"
    random = np.random.default_rng(zlib.crc32(f"{writer} {corrupted.__name__}".encode()))
    refused = 0
    for _ in range(EACH[corrupted]):
        changed = corrupted(data, random)
        path.write_bytes(changed)
        found = read(path)
        if found is None:
            refused += 1
        elif not same(found, arrays()):
            try:
                others = by_others(writer, changed)
            except (ValueError, RuntimeError, OSError, EOFError, pickle.UnpicklingError, zlib.error):
                others = as_they_lie(data, changed)
            assert same(found, others)
    assert refused > 0
    if corrupted is flipped and writer.startswith("our"):
        assert refused > EACH[flipped] * 0.9  # ours have checksums


PAYLOADS = [name for name, _ in hostile(Path("canary"))]


@pytest.mark.parametrize("around", [bytes, torch_zip, torch_legacy])
@pytest.mark.parametrize("index", range(len(PAYLOADS)), ids=lambda index: PAYLOADS[index])
def test_a_hostile_pickle_does_nothing(index: int, around: Callable[[bytes], bytes], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    _, payload = list(hostile(canary))[index]
    (tmp_path / "w").write_bytes(around(payload))
    found = read(tmp_path / "w")
    assert not canary.exists()
    assert found is None or found.keys() <= {"b"}


@pytest.mark.parametrize("index", [index for index, name in enumerate(PAYLOADS) if "shape" in name])
def test_a_shape_beyond_the_file_is_refused_before_any_array_is_read(index: int, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(list(hostile(tmp_path))[index][1])
    with pytest.raises(CheckpointError, match=r"'a' claims the shape|expected a shape for 'a', found"):
        registry.read(tmp_path / "w")


@pytest.mark.parametrize(("why", "said"), TENSORS)
@pytest.mark.parametrize("around", [torch_zip, torch_legacy])
def test_a_tensor_that_lies_about_its_storage_is_not_read(
    why: str, said: bytes, around: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "w").write_bytes(around(lying_tensor(said)))
    assert not read(tmp_path / "w")


def test_a_header_that_is_all_of_a_large_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    empty = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = b"{" + b",".join(empty % index for index in range(200_000)) + b"}"
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header)
    assert read(tmp_path / "w") is None


def folder(path: Path, ours: bool) -> None:
    """An Orbax checkpoint, by us or by Orbax."""
    required("flax")
    if ours:
        registry.write(path, "orbax", tensors(), {})
        return
    import orbax.checkpoint

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), arrays())


@pytest.mark.parametrize("ours", [True, False])
def test_a_corrupted_folder_is_refused_or_read_right(ours: bool, tmp_path: Path) -> None:
    folder(tmp_path / "whole", ours)
    random = np.random.default_rng(0)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    refused = 0
    for file in files:
        for corrupted in (truncated, flipped, lying, None):
            if corrupted in (flipped, lying) and not ours and file.parts[-2:-1] == ("d",):
                continue  # Orbax's arrays have no checksums
            path = tmp_path / "w"
            shutil.copytree(tmp_path / "whole", path)
            if corrupted is None:
                (path / file).unlink()
            else:
                (path / file).write_bytes(corrupted((path / file).read_bytes(), random))
            try:
                found = {name: tensor.read() for name, tensor in registry.read(path).tensors.items()}
            except CheckpointError:
                refused += 1
            else:
                assert all(same({name: array}, {name: arrays()[name]}) for name, array in found.items())
            shutil.rmtree(path)
    assert refused > len(files)


def test_the_canary_would_die() -> None:
    """The payloads are real: pickle itself runs them."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        payload = next(data for name, data in hostile(canary) if name == "a call")
        pickle.loads(payload)
        assert canary.exists()


def test_there_are_a_thousand() -> None:
    assert len(WRITERS) * sum(EACH.values()) + 3 * len(PAYLOADS) + 2 * len(TENSORS) > 1000
