"""Corrupted checkpoints are refused or read correctly, and never run code, hang, or use more than twice their size."""

from __future__ import annotations

import io
import pickle
import shutil
import tempfile
import zlib
from collections.abc import Callable
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
    FALSE_TENSORS,
    WRITERS,
    flip_bits,
    generate_hostile_pickles,
    make_arrays,
    make_tensors,
    pickle_tensor,
    replace_number,
    truncate,
    wrap_in_torch_legacy,
    wrap_in_torch_zip,
)
from shared.frameworks import required
from shared.limited_reader import LimitedReader, check_refusal

torch = pytest.importorskip("torch")

CORRUPTIONS: dict[str, tuple[Callable[[bytes, np.random.Generator], bytes], int]] = {
    "truncated": (truncate, 25),
    "flipped": (flip_bits, 45),
    "lying": (replace_number, 30),
}
"""The ways to corrupt files, and how many files of each writer are corrupted so. The names are part of random seeds."""


LIBRARIES = {"flax": ["flax"], "onnx": ["onnx"], "h5py": ["h5py"]}
"""The libraries that write files for some writers."""


@cache
def write_valid_file(writer: str, folder: Path) -> bytes:
    """Return the bytes of a valid file."""
    path = folder / "valid"
    WRITERS[writer](path)
    return path.read_bytes()


READER = LimitedReader()


def read(path: Path) -> dict[str, Array] | None:
    """Return all arrays of a file, or None if it is refused or names arrays that it can't read."""
    outcome = READER.read(path, keep=True)
    if outcome.error:
        check_refusal(path, outcome)
    return None if outcome.error or outcome.unread else outcome.arrays


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of NumPy arrays, and refuses all other classes and functions."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        if (module, name) not in allowed and name != "_reconstruct":
            raise pickle.UnpicklingError(name)
        return super().find_class(module, name)


def read_by_own_library(writer: str, data: bytes) -> dict[str, Array]:
    """Return the arrays that the format's own library reads from a file. Raises whatever the library raises."""
    if "safetensors" in writer:
        return load(data)
    if "npz" in writer or "numpy" in writer:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return dict(file)
    if "paddle" in writer or "pdparams" in writer:
        state = ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
        return {name: array for name, array in state.items() if isinstance(array, np.ndarray)}
    if writer == "flax":
        from flax import serialization

        return dict(serialization.msgpack_restore(data))
    if writer == "onnx":
        import onnx

        initializers = onnx.load_model_from_string(data).graph.initializer
        return {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in initializers}
    if writer == "h5py":
        import h5py

        with h5py.File(io.BytesIO(data), "r") as file:
            return {name: file[name][()] for name in file}
    return {name: tensor.numpy() for name, tensor in torch.load(io.BytesIO(data), weights_only=True).items()}


def read_at_original_offsets(data: bytes, changed: bytes) -> dict[str, Array]:
    """Return the arrays from where they are in the valid file: without checksums, changes inside them go unnoticed."""
    arrays = {}
    for name, array in make_arrays().items():
        at = data.index(array.tobytes())
        arrays[name] = np.frombuffer(changed[at : at + array.nbytes], array.dtype).reshape(array.shape)
    return arrays


def are_equal(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return first.keys() == second.keys() and all(
        (first[name].shape, first[name].dtype, first[name].tobytes())
        == (second[name].shape, second[name].dtype, second[name].tobytes())
        for name in first
    )


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 9))])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.share(3)
def test_corrupted_file_is_refused_or_read_correctly(writer: str, corruption: str, seed: int, tmp_path: Path) -> None:
    """Correct is what the format's own library reads or, if it refuses the file, the bytes where the arrays were."""
    for library in LIBRARIES.get(writer, ()):
        pytest.importorskip(library)
    corrupt, count = CORRUPTIONS[corruption]
    data = write_valid_file(writer, tmp_path)
    path = tmp_path / "w"
    random = np.random.default_rng(zlib.crc32(f"{writer} {corruption} {seed}".encode()))
    refused = 0
    for _ in range(count):
        changed = corrupt(data, random)
        path.write_bytes(changed)
        arrays = read(path)
        if arrays is None:
            refused += 1
        elif not are_equal(arrays, make_arrays()):
            try:
                expected = read_by_own_library(writer, changed)
            except Exception:  # of any kind: these libraries expect valid files
                expected = read_at_original_offsets(data, changed)
            assert are_equal(arrays, expected)
    assert refused > 0 or (corruption == "flipped" and writer in LIBRARIES)  # these files are nearly all numbers
    if corruption == "flipped" and writer.startswith("our"):
        assert refused > 0.9 * count  # these files have checksums


HOSTILE = [name for name, _ in generate_hostile_pickles(Path("canary"))]
LARGE = {name for name, payload in generate_hostile_pickles(Path("canary")) if len(payload) > 2**18}
"""Pickles whose size is the attack: they are read on their own, and the others also inside each kind of file."""


@pytest.mark.parametrize(
    ("index", "wrap"),
    [
        pytest.param(index, wrap, id=f"{name}-{wrap.__name__}")
        for index, name in enumerate(HOSTILE)
        for wrap in (bytes, wrap_in_torch_zip, wrap_in_torch_legacy)
        if wrap is bytes or name not in LARGE
    ],
)
@pytest.mark.share(4)
def test_hostile_pickle_has_no_effect(index: int, wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    _, payload = list(generate_hostile_pickles(canary))[index]
    (tmp_path / "w").write_bytes(wrap(payload))
    arrays = read(tmp_path / "w")
    assert not canary.exists()
    assert arrays is None or arrays.keys() <= {"b"}


@pytest.mark.parametrize("index", [index for index, name in enumerate(HOSTILE) if "shape" in name])
def test_impossible_shape_is_refused_before_any_array_is_read(index: int, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(list(generate_hostile_pickles(tmp_path))[index][1])
    with pytest.raises(CheckpointError, match=r"'a' claims the shape|expected a shape for 'a', found"):
        registry.read(tmp_path / "w")


@pytest.mark.parametrize(("why", "view"), FALSE_TENSORS)
@pytest.mark.parametrize("wrap", [wrap_in_torch_zip, wrap_in_torch_legacy])
def test_tensor_that_does_not_fit_its_storage_is_not_read(
    why: str, view: bytes, wrap: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "w").write_bytes(wrap(pickle_tensor(view)))
    assert not read(tmp_path / "w")


def test_huge_header_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    empty = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = b"{" + b",".join(empty % index for index in range(200_000)) + b"}"
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header)
    assert read(tmp_path / "w") is None


def write_orbax_folder(path: Path, by_orbax: bool) -> None:
    required("flax")
    if not by_orbax:
        registry.write(path, "orbax", make_tensors(), {})
        return
    import orbax.checkpoint

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), make_arrays())


@pytest.mark.parametrize("by_orbax", [False, True])
@pytest.mark.share(2)
def test_corrupted_folder_is_refused_or_read_correctly(by_orbax: bool, tmp_path: Path) -> None:
    """Each file of the folder in turn is corrupted or deleted."""
    valid, path = tmp_path / "valid", tmp_path / "w"
    write_orbax_folder(valid, by_orbax)
    random = np.random.default_rng(0)
    files = sorted(file.relative_to(valid) for file in valid.rglob("*") if file.is_file())
    refused = 0
    for file in files:
        for corrupt in (truncate, flip_bits, replace_number, None):
            if corrupt in (flip_bits, replace_number) and by_orbax and file.parts[-2:-1] == ("d",):
                continue  # Orbax writes no checksums for arrays
            shutil.copytree(valid, path)
            if corrupt is None:
                (path / file).unlink()
            else:
                (path / file).write_bytes(corrupt((path / file).read_bytes(), random))
            try:
                arrays = {name: tensor.read() for name, tensor in registry.read(path).tensors.items()}
            except CheckpointError:
                refused += 1
            else:
                assert all(are_equal({name: array}, {name: make_arrays()[name]}) for name, array in arrays.items())
            shutil.rmtree(path)
    assert refused > len(files)


def test_hostile_pickle_runs_code_in_the_standard_library() -> None:
    """The payloads are real: ``pickle`` itself runs them."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        payload = next(data for name, data in generate_hostile_pickles(canary) if name == "a call")
        pickle.loads(payload)
        assert canary.exists()


def test_at_least_a_thousand_files_are_tried() -> None:
    assert (
        len(WRITERS) * sum(count for _, count in CORRUPTIONS.values()) + 3 * len(HOSTILE) + 2 * len(FALSE_TENSORS)
        > 1000
    )
