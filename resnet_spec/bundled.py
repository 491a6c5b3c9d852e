"""The specs that come with the package: ``specs/`` in a checkout, ``resnet_spec/specs/`` once installed."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from resnet_spec.source import Source


@cache
def directory() -> Traversable:
    """Where the bundled specs lie."""
    packaged = files("resnet_spec") / "specs"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[1] / "specs"


@cache
def catalogue() -> dict[str, Traversable]:
    """The bundled networks' files by full name, as in ``resnet18`` or ``timm/resnet50d``."""
    return dict(sorted(_named(directory(), "", skip="blocks")))


@cache
def block_files() -> dict[str, Traversable]:
    """The bundled blocks' files by name."""
    return dict(sorted(_named(directory() / "blocks", "")))


def names() -> list[str]:
    """The bundled networks, by full name."""
    return list(catalogue())


def find(name: str) -> Source | None:
    """The text of a bundled network by its full name, or by its last part where that is unique; ``.yaml`` may follow."""
    bare = name.removesuffix(".yaml")
    path = catalogue().get(bare)
    if path is None:
        ends = [known for known in catalogue() if known.rpartition("/")[2] == bare]
        path = catalogue()[ends[0]] if len(ends) == 1 else None
    return None if path is None else Source(str(path), path.read_text(encoding="utf-8"))


def _named(folder: Traversable, prefix: str, skip: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.name.endswith(".yaml"):
            found.append((prefix + entry.name.removesuffix(".yaml"), entry))
        elif entry.is_dir() and entry.name != skip:
            found += _named(entry, f"{prefix}{entry.name}/")
    return found
