"""The tables of dialects and layouts, read from the YAML files of this package."""

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
"""A list with a name for each index, or a pattern such as ``conv{index+1}``, filled from a role's attributes."""

_PACKAGE = "resnet_spec.checkpoints.naming"
_FIELD = re.compile(r"\{(\w+)\+?(\d*)\}")


@dataclass(frozen=True, slots=True)
class RoleNames:
    """A dialect's names for the layers of one role, and the kind of layer that it uses instead, if it is another."""

    names: Names
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How another library names layers.

    Attributes:
        patterns: Expressions of which at least one matches a name in every file in this dialect.
        layout: The only layout that these names are used with, or None if they are used with every layout.
        separator: What stands between the name of a block and the name of a layer in it.
        block: A pattern for the name of a block, by the number of convolutions in its branch; 0 for any number.
        tables: The names by section, kind of layer and number of convolutions; 0 for any number.
    """

    name: str
    title: str
    patterns: tuple[re.Pattern[str], ...]
    layout: str | None
    separator: str
    block: Mapping[int, str]
    tables: Mapping[tuple[str, str, int], RoleNames]

    @property
    def numbers_throughout(self) -> bool:
        """Whether a block's number counts the blocks of all stages before it."""
        return any("{flat" in pattern for pattern in self.block.values())

    def name_layer(self, role: Role) -> tuple[str, str] | None:
        """Return the name and the kind of a layer in this dialect, or None if it has no name for the role."""
        entry = self.tables.get((role.section, role.kind, 0)) or self.tables.get((role.section, role.kind, role.convs))
        last = None if entry is None else _pick_name(entry.names, role)
        if entry is None or last is None:
            return None
        kind = entry.kind or role.kind
        if role.section in ("stem", "head"):
            return last, kind
        block = self.block.get(0) or self.block.get(role.convs)
        return None if block is None else (f"{_fill_pattern(block, role)}{self.separator}{last}", kind)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """The name of an array in a layout, and the order of its axes; () for PyTorch's order."""

    name: str
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How a framework stores the arrays of a layer.

    Attributes:
        parameter: A pattern for the full name of a parameter, with the fields ``layer`` and ``array``.
        statistic: The same for a running mean or variance.
        arrays: The arrays that differ from PyTorch's, by kind of layer and PyTorch's name of the array.
    """

    name: str
    title: str
    parameter: str
    statistic: str
    arrays: Mapping[tuple[str, str], ArrayLayout]

    @property
    def kernel(self) -> str:
        """The name of a convolution's weight."""
        return self.arrays.get(("conv", "weight"), ArrayLayout("weight")).name


@cache
def load_dialects() -> dict[str, Dialect]:
    """Return the dialects by name."""
    tables = sorted(path for path in files(_PACKAGE).iterdir() if path.name.endswith(".yaml"))  # type: ignore[type-var]
    dialects = [
        _parse_dialect(path.name.removesuffix(".yaml"), yaml.safe_load(path.read_text("utf-8"))) for path in tables
    ]
    return {dialect.name: dialect for dialect in dialects}


@cache
def load_layouts() -> dict[str, Layout]:
    """Return the layouts by name."""
    tables = yaml.safe_load((files(_PACKAGE) / "layouts.yml").read_text("utf-8"))
    return {name: _parse_layout(name, table) for name, table in tables.items()}


def _parse_dialect(name: str, table: dict[str, Any]) -> Dialect:
    title, layout, separator = table.pop("title"), table.pop("layout", None), table.pop("separator", ".")
    patterns, block = tuple(map(re.compile, table.pop("patterns"))), table.pop("block")
    tables = {}
    for section, content in table.items():
        for convs, kinds in (content if _is_by_convs(content) else {0: content}).items():
            for kind, names in kinds.items():
                is_other_kind = isinstance(names, dict)
                tables[section, kind, convs] = (
                    RoleNames(names["names"], names["as"]) if is_other_kind else RoleNames(names)
                )
    blocks = block if isinstance(block, dict) else {0: block}
    return Dialect(name, title, patterns, layout, separator, blocks, tables)


def _is_by_convs(table: Mapping[object, object]) -> bool:
    """Return whether a section has a table for each number of convolutions."""
    return all(isinstance(key, int) for key in table)


def _parse_layout(name: str, table: dict[str, Any]) -> Layout:
    title = table.pop("title")
    parameter, statistic = table.pop("parameter", "{layer}.{array}"), table.pop("statistic", "{layer}.{array}")
    layouts = {}
    for kind, arrays in table.items():
        for array, value in arrays.items():
            options: dict[str, Any] = {"name": value} if isinstance(value, str) else value
            layouts[kind, array] = ArrayLayout(options.get("name", array), tuple(options.get("axes", ())))
    return Layout(name, title, parameter, statistic, layouts)


def _pick_name(names: Names, role: Role) -> str | None:
    if isinstance(names, str):
        return _fill_pattern(names, role)
    return names[role.index] if role.index < len(names) else None


def _fill_pattern(pattern: str, role: Role) -> str:
    return _FIELD.sub(lambda field: str(getattr(role, field[1]) + int(field[2] or 0)), pattern)
