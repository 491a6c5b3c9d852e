"""Each file imports only from the floors below its own, and no framework is ever imported by the core."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resnet_spec

FLOORS = [
    {"source", "ops", "normal", "nearest", "traps", "reserved", "documentation", "fit"},
    {"events", "spec", "bundled"},
    {"nodes", "combine", "network", "values"},
    {"options", "scope", "weights", "features", "faults", "codes"},
    {"language", "paths", "unused", "report"},
    {"costs", "structure"},
    {"single", "walk", "retrace", "write", "affine", "backend", "images", "start", "dialects"},
    {"form", "leaf", "residual", "fork", "stages", "schema", "notices"},
    {"read", "extend", "tree"},
    {"expand"},
    {"dilate", "fold"},
    {"adapt"},
    {"load", "table", "formats"},
    {"index"},
    {"transfer", "diff", "table_text", "drawing"},
    {"scatter", "diff_text", "diff_weights", "notebook"},
    {"page"},
    {"serve"},
    {"api", "parity"},
    {"commands", "pytest_plugin"},
    {"cli"},
    {"__main__"},
]
CORE = Path(resnet_spec.__file__).parent
FRAMEWORKS = {"torch", "paddle", "jax", "flax"}


def files(name: str) -> list[Path]:
    """A module's file, or a package's."""
    return sorted((CORE / name).glob("*.py")) or [CORE / f"{name}.py"]


def imported(name: str) -> set[str]:
    """The core's other modules that a module or package names in an import, wherever in it that stands."""
    names = set()
    for node in (node for path in files(name) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.ImportFrom) and node.module == "resnet_spec":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnet_spec."):
            names.add(str(node.module).split(".")[1])
    return names - {name}


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_imports_go_down(floor: int) -> None:
    below = set[str]().union(*FLOORS[:floor])
    upward = {name: imported(name) - below for name in FLOORS[floor]}
    assert upward == {name: set() for name in FLOORS[floor]}


def test_every_file_has_a_floor() -> None:
    found = {path.stem for path in CORE.glob("*.py")} | {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert found - {"__init__"} == set[str]().union(*FLOORS)


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_names_no_framework_in_an_import(path: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    assert not found & FRAMEWORKS


@pytest.mark.parametrize("command", [["show", "resnet18"], ["check", "resnet18"], ["list"]])
def test_looking_at_networks_imports_no_framework(command: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["resnet-spec", *{command}]
import resnet_spec.cli
try:
    resnet_spec.cli.main()
except SystemExit as done:
    assert done.code == 0
print(sorted({FRAMEWORKS | {"numpy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
