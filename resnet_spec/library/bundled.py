"""The specs that come with the package: ``specs/`` in a checkout, ``resnet_spec/specs/`` once installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.diagnostics.problems import Source

if TYPE_CHECKING:  # it takes longer to import than a spec to read, and only a zipped package needs it
    from importlib.resources.abc import Traversable


@cache
def directory() -> Traversable:
    """Where the bundled specs lie."""
    package = Path(__file__).resolve().parents[1]
    found = next((folder for folder in (package / "specs", package.parent / "specs") if folder.is_dir()), None)
    if found is None:
        from importlib.resources import files

        return files("resnet_spec") / "specs"
    return found


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
    """The text of a bundled network by its full name, or by the end of it where that is unique; ``.yaml`` may follow.

    A network in no folder has its name to itself: ``resnet18`` is not one of those in folders.
    """
    known = meant(name)
    if len(known) != 1:
        return None
    path = catalogue()[known[0]]
    return Source(str(path), path.read_text(encoding="utf-8"))


def meant(name: str) -> list[str]:
    """The full names that a name could mean."""
    bare = name.removesuffix(".yaml")
    if bare in catalogue():
        return [bare]
    return [known for known in catalogue() if known.endswith(f"/{bare}")]


def _named(folder: Traversable, prefix: str, skip: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.name.endswith(".yaml"):
            found.append((prefix + entry.name.removesuffix(".yaml"), entry))
        elif entry.is_dir() and entry.name != skip:
            found += _named(entry, f"{prefix}{entry.name}/")
    return found
