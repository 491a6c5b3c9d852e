"""The specs that the package contains: in ``specs/`` in a checkout, and in ``resnet_spec/specs/`` when installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.diagnostics.problems import Source

if TYPE_CHECKING:  # importing it takes longer than reading a spec, and only a zipped package needs it
    from importlib.resources.abc import Traversable


@cache
def directory() -> Traversable:
    """Return the folder of the bundled specs."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "specs", package.parent / "specs"):
        if folder.is_dir():
            return folder
    from importlib.resources import files

    return files("resnet_spec") / "specs"


@cache
def network_files() -> dict[str, Traversable]:
    """Return the files of the bundled networks by full name, such as ``resnet18`` and ``timm/resnet50d``."""
    return dict(sorted(_list_specs(directory(), "", skip="blocks")))


@cache
def block_files() -> dict[str, Traversable]:
    """Return the files of the bundled blocks by name."""
    return dict(sorted(_list_specs(directory() / "blocks", "")))


def names() -> list[str]:
    """Return the full names of the bundled networks."""
    return list(network_files())


def find(name: str) -> Source | None:
    """Return the source of a bundled network, or None if there is none or several match.

    A network is found by its full name, or by its name without the folders if that is unique; ``.yaml`` may follow. A
    full name takes precedence: ``resnet18`` is the network that is in no folder.
    """
    matches = match_name(name)
    if len(matches) != 1:
        return None
    path = network_files()[matches[0]]
    return Source(str(path), path.read_text(encoding="utf-8"))


def match_name(name: str) -> list[str]:
    """Return the full names that a name could stand for."""
    bare = name.removesuffix(".yaml")
    if bare in network_files():
        return [bare]
    return [known for known in network_files() if known.endswith(f"/{bare}")]


def _list_specs(folder: Traversable, prefix: str, skip: str = "") -> list[tuple[str, Traversable]]:
    """List the specs in a folder and its subfolders, except the one called ``skip``, each with its name."""
    specs: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.name.endswith(".yaml"):
            specs.append((prefix + entry.name.removesuffix(".yaml"), entry))
        elif entry.is_dir() and entry.name != skip:
            specs += _list_specs(entry, f"{prefix}{entry.name}/")
    return specs
