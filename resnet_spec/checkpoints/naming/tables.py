"""The tables of dialects and layouts, read from their YAML files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import yaml

from resnet_spec.checkpoints.naming.roles import Role

Names: TypeAlias = "str | list[str]"
"""A pattern, or a name for each index. ``{index+1}`` in a pattern is a number of the role's, more or less some."""

_HERE = "resnet_spec.checkpoints.naming"
_FIELD = re.compile(r"\{(\w+)\+?(\d*)\}")


@dataclass(frozen=True, slots=True)
class Naming:
    """What a dialect calls the layers of one role, and the kind of layer that it uses in its place, if another."""

    names: Names
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a peer names layers.

    Attributes:
        marks: What is seen in the names of a file that speaks it.
        layout: The framework whose layouts go with the names, if only one's do.
        tables: The names by section and kind of layer, by the number of convolutions; 0 where that does not matter.
    """

    name: str
    title: str
    marks: tuple[re.Pattern[str], ...]
    layout: str | None
    separator: str
    block: Mapping[int, str]
    tables: Mapping[tuple[str, str, int], Naming]

    def layer(self, role: Role) -> tuple[str, str] | None:
        """The name of a layer and its kind here, or None where the dialect has no name for such a one."""
        naming = self.tables.get((role.section, role.kind, 0)) or self.tables.get((role.section, role.kind, role.convs))
        last = None if naming is None else _named(naming.names, role)
        if naming is None or last is None:
            return None
        kind = naming.kind or role.kind
        if role.section in ("stem", "head"):
            return last, kind
        block = self.block.get(0) or self.block.get(role.convs)
        return None if block is None else (f"{_filled(block, role)}{self.separator}{last}", kind)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a layout calls an array, and in which order its axes stand."""

    name: str
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How a framework keeps the arrays of a layer, by kind of layer and array, where it differs from PyTorch."""

    name: str
    title: str
    parameter: str
    statistic: str
    kept: Mapping[tuple[str, str], Kept]

    @property
    def kernel(self) -> str:
        """What a convolution's weight is called."""
        return self.kept.get(("conv", "weight"), Kept("weight")).name


@cache
def dialects() -> dict[str, Dialect]:
    """The dialects by name."""
    found = sorted(path for path in files(_HERE).iterdir() if path.name.endswith(".yaml"))  # type: ignore[type-var]
    read = [_dialect(path.name.removesuffix(".yaml"), yaml.safe_load(path.read_text("utf-8"))) for path in found]
    return {dialect.name: dialect for dialect in read}


@cache
def layouts() -> dict[str, Layout]:
    """The layouts by name."""
    tables = yaml.safe_load((files(_HERE) / "layouts.yml").read_text("utf-8"))
    return {name: _layout(name, table) for name, table in tables.items()}


def _dialect(name: str, table: dict[str, Any]) -> Dialect:
    title, marks, layout = table.pop("title"), tuple(map(re.compile, table.pop("marks"))), table.pop("layout", None)
    separator, block = table.pop("separator", "."), table.pop("block")
    tables = {}
    for section, kinds in table.items():
        for convs, named in (kinds if _by_number(kinds) else {0: kinds}).items():
            for kind, names in named.items():
                split = isinstance(names, dict)
                naming = Naming(names["names"], names["as"]) if split else Naming(names)
                tables[section, kind, convs] = naming
    blocks = block if isinstance(block, dict) else {0: block}
    return Dialect(name, title, marks, layout, separator, blocks, tables)


def _by_number(table: Mapping[object, object]) -> bool:
    return all(isinstance(key, int) for key in table)


def _layout(name: str, table: dict[str, Any]) -> Layout:
    title = table.pop("title")
    parameter, statistic = table.pop("parameter", "{layer}.{array}"), table.pop("statistic", "{layer}.{array}")
    kept = {}
    for kind, arrays in table.items():
        for array, said in arrays.items():
            split: dict[str, Any] = {"name": said} if isinstance(said, str) else said
            kept[kind, array] = Kept(split.get("name", array), tuple(split.get("axes", ())))
    return Layout(name, title, parameter, statistic, kept)


def _named(names: Names, role: Role) -> str | None:
    if isinstance(names, str):
        return _filled(names, role)
    return names[role.index] if role.index < len(names) else None


def _filled(pattern: str, role: Role) -> str:
    return _FIELD.sub(lambda field: str(getattr(role, field[1]) + int(field[2] or 0)), pattern)
