"""Records on disk: what a machine with one framework computed, for another with a different one to compare with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.parity.array_files import get, put
from resnet_spec.parity.case import Case
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record
from resnet_spec.weights.canonical import Array

PACKAGES = ("resnet-spec", "numpy", "torch", "paddlepaddle", "jax", "flax")


def versions() -> dict[str, str]:
    """What is installed here that a figure may depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def save(folder: Path, backend: str, case: Case, record: Record) -> None:
    """Keep what a backend made of a case."""
    path = _path(folder, backend, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{group}:{name}": array for group, found in record.items() for name, array in found.items()}
    put(path, arrays)
    about = {"network": to_yaml(case.network), "versions": versions()}
    path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


def backends(folder: Path) -> list[str]:
    """The backends whose records lie in a folder. Raises FileNotFoundError where there are none."""
    found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"no records of parity in {str(folder)!r}; parity --save writes them")
    return found


class Stored:
    """A backend of which there are only records; its name says so, as the backend itself may be here too."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.name = f"{backend} (kept)"
        self.backend = backend
        self.folder = folder

    def record(self, case: Case) -> Record:
        """What was kept of the case. Raises Failure where nothing was, or of another network."""
        path = _path(self.folder, self.backend, case)
        try:
            if _network(path) != to_yaml(case.network):
                raise Failure(f"the record in {self.folder} is of another network of this name")
            arrays = get(path)
        except FileNotFoundError:
            raise Failure(f"{self.folder} holds no record of this case") from None
        except (ValueError, OSError) as error:
            raise Failure(f"the record in {self.folder} is damaged: {error}") from None
        found: Record = {}
        for key, array in arrays.items():
            group, _, name = key.partition(":")
            if group in case.groups:
                found.setdefault(group, {})[name] = array
        return found

    def alone(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("a record can't be asked anything else")

    def slopes(self, case: Case) -> dict[str, Array]:
        raise Failure("a record can't be asked anything else")

    def pulls(self, case: Case, inputs: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("a record can't be asked anything else")


def _network(path: Path) -> str:
    """The network that a record is of, as it was written. Raises ValueError, OSError."""
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if not isinstance(about, dict) or "network" not in about:
        raise ValueError(f"expected a network in {path.with_suffix('.json').name!r}")
    return about["network"]


def _path(folder: Path, backend: str, case: Case) -> Path:
    name = re.sub(r"[^\w.-]+", "_", case.network.name)
    size = "x".join(map(str, case.network.input))
    return folder / backend / f"{name}-{size}-{case.dtype}-{case.seed}.safetensors"
