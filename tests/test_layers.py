"""Packages import only from layers below their own, modules import in no circle, and the core imports no framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import resnet_spec
from shared.paths import ROOT

LAYERS = [
    {"diagnostics", "ops"},
    {"syntax"},
    {"language"},
    {"network"},
    {"expansion", "weights"},
    {"transforms", "backend", "images"},
    {"library", "emitting"},
    {"checkpoints", "preparation"},
    {"downloads"},
    {"api", "parity", "views"},
    {"importing", "vectors"},
    {"commands", "pytest_plugin"},
]
"""The packages and modules of ``resnet_spec/``, lowest first; ARCHITECTURE.md has the same list with their purposes."""

CORE = Path(resnet_spec.__file__).parent
FRAMEWORKS = {"torch", "paddle", "jax", "flax"}
MODULES = {
    ".".join(path.relative_to(CORE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in CORE.rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """Return the core's modules that a file imports, wherever in it the import stands: ``network.costs``, ``ops``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "resnet_spec":
            module = str(node.module).partition(".")[2]
            for alias in node.names:
                dotted = f"{module}.{alias.name}".lstrip(".")
                found.add(dotted if dotted in MODULES else module)
    return found - {""}


def unit(module: str) -> str:
    """Return what a module belongs to: its package, or itself."""
    return module.partition(".")[0]


def imports_of(name: str) -> set[str]:
    """Return the packages and modules that another imports."""
    paths = [path for module, path in MODULES.items() if unit(module) == name]
    return {unit(module) for path in paths for module in imported(path)} - {name}


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_imports_go_down(layer: int) -> None:
    below = set[str]().union(*LAYERS[:layer])
    upward = {name: imports_of(name) - below for name in LAYERS[layer]}
    assert upward == {name: set() for name in LAYERS[layer]}


def test_every_module_has_a_layer() -> None:
    assert {unit(module) for module in MODULES} - {"__init__", "__main__"} == set[str]().union(*LAYERS)
    assert imports_of("__main__") == {"commands"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: imported(path) for module, path in MODULES.items()}).prepare()


def test_there_are_few_layers_and_few_modules_beside_the_packages() -> None:
    assert len(LAYERS) <= 12
    assert len(list(CORE.glob("*.py"))) <= 8


def test_the_architecture_draws_these_layers() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = text.partition("## Layers")[2].partition("```")[2].partition("```")[0]
    rows: dict[int, set[str]] = {}
    level = 0
    for line in drawn.strip().splitlines():
        number, name = line[:4].strip(), line[4:].split()[0]
        level = int(number) if number else level
        rows.setdefault(level, set()).add(name.rstrip("/").removesuffix(".py"))
    assert rows == dict(enumerate(LAYERS, start=1))


def test_the_core_names_no_framework_in_an_import() -> None:
    found = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if named := {name.partition(".")[0] for name in names} & FRAMEWORKS:
                found[module] = named
    assert found == {}


@pytest.mark.parametrize("command", [["show", "resnet18"], ["check", "resnet18"], ["list"]])
def test_looking_at_networks_imports_no_framework(command: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["resnet-spec", *{command}]
import resnet_spec.commands.main
try:
    resnet_spec.commands.main.main()
except SystemExit as done:
    assert done.code == 0
print(sorted({FRAMEWORKS | {"numpy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
