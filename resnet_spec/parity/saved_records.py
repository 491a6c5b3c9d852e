"""Records on disk, so that a machine with one framework can be compared with a machine with another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.parity.array_files import map_arrays, write_arrays
from resnet_spec.parity.case import GATES, Case, Dtype, Group
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record
from resnet_spec.weights.canonical import Array

PACKAGES = ("resnet-spec", "numpy", "torch", "paddlepaddle", "jax", "flax")
"""The packages that results may depend on."""

MAX_STEM = 50
"""The characters of a network's name in a file's name, which has at most 255 bytes."""


def installed_versions() -> dict[str, str]:
    """Return the versions of those of PACKAGES that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def file_stem(name: str) -> str:
    """Return a part of a file's name for a network, whose own name may hold anything.

    >>> file_stem("../my net")
    '.._my_net'
    """
    return re.sub(r"[^\w.-]+", "_", name)[:MAX_STEM]


def save_record(folder: Path, backend: str, case: Case, record: Record) -> None:
    """Write a backend's record of a case, with the network and the versions beside it."""
    path = _record_path(folder, backend, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {f"{group}:{name}": array for group, arrays in record.items() for name, array in arrays.items()})
    about = {"network": to_yaml(case.network), "versions": installed_versions()}
    path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


def find_records(folders: Sequence[Path]) -> list[SavedRecords]:
    """Return the records of every backend in folders, each under a name of its own. Raises FileNotFoundError."""
    found = [(backend, folder) for folder in dict.fromkeys(folders) for backend in find_backends(folder)]
    count = Counter(backend for backend, _ in found)
    return [SavedRecords(backend, folder, "kept" if count[backend] == 1 else str(folder)) for backend, folder in found]


def find_backends(folder: Path) -> list[str]:
    """Return the backends that have records in a folder. Raises FileNotFoundError if there are none."""
    backends = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not backends:
        raise FileNotFoundError(f"no parity records in {str(folder)!r}; resnet-spec parity --save writes them")
    return backends


class SavedRecords:
    """A ``Runner`` that returns a backend's saved records.

    Its name is marked, since the backend itself may take part in the same comparison.
    """

    def __init__(self, backend: str, folder: Path, mark: str = "kept") -> None:
        self.name = f"{backend} ({mark})"
        self.backend = backend
        self.folder = folder

    def dtypes(self) -> set[Dtype]:
        """Return the types of which there are records."""
        names = [path.stem for path in (self.folder / self.backend).glob("*.safetensors")]
        return {dtype for dtype in GATES if any(re.search(f"-{dtype}--?[0-9]+$", name) for name in names)}

    def record(self, case: Case) -> Record:
        """Return the saved record of a case. Raises Failure if there is none, or if it is of another network."""
        if case.nudged:
            raise Failure("a saved record can't be computed again")
        path = _record_path(self.folder, self.backend, case)
        try:
            if _read_network(path) != to_yaml(case.network):
                raise Failure(f"the record in {self.folder} is of a different network of the same name")
            arrays = map_arrays(path)
        except FileNotFoundError:
            raise Failure(f"{self.folder} has no record of this case") from None
        except (ValueError, OSError) as error:
            raise Failure(f"the record in {self.folder} is damaged: {error}") from None
        record: Record = {}
        for key, array in arrays.items():
            group, _, name = key.partition(":")
            if group in case.recorded_groups:
                record.setdefault(group, {})[name] = array
        return record

    def infer(self, case: Case) -> dict[str, Array]:
        """Return nothing: if inference mode was saved, it is part of the record."""
        return {}

    def run_parts(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raise Failure: only what was saved is known."""
        raise Failure("a saved record can't run parts")

    def output_gradients(self, case: Case) -> dict[str, Array]:
        """Raise Failure: only what was saved is known."""
        raise Failure("a saved record can't compute gradients")

    def vjps(self, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]) -> dict[str, Array]:
        """Raise Failure: only what was saved is known."""
        raise Failure("a saved record can't compute gradients")

    def judge_parts(self, case: Case, group: Group, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raise Failure: only what was saved is known."""
        raise Failure("a saved record can't compute what parts should give")

    def central_difference(self, case: Case, number: int, step: float) -> float:
        """Raise Failure: only what was saved is known."""
        raise Failure("a saved record can't compute a loss")


def _read_network(path: Path) -> str:
    """Return the YAML of the network that a record is of. Raises ValueError, or OSError."""
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if not isinstance(about, dict) or "network" not in about:
        raise ValueError(f"expected a key 'network' in {path.with_suffix('.json').name!r}")
    return about["network"]


def _record_path(folder: Path, backend: str, case: Case) -> Path:
    size = "x".join(map(str, case.network.input))
    return folder / backend / f"{file_stem(case.network.name)}-{size}-{case.dtype}-{case.seed}.safetensors"
