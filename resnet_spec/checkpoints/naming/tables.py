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
"""A list with a pattern for each index, or one pattern for all, such as ``conv{index+1}``.

Patterns are filled from a role's attributes.

``{block+1:2}`` is a number of two digits.
"""

_PACKAGE = "resnet_spec.checkpoints.naming"
_FIELD = re.compile(r"\{(\w+)\+?(\d*)(?::(\d+))?\}")


@dataclass(frozen=True, slots=True)
class RoleNames:
    """A dialect's names for the layers of one role, and the kind of layer that it uses instead, if it is another."""

    names: Names
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How another library names layers.

    Attributes:
        patterns: Expressions of which at least one matches a name in every file in this dialect. ``^`` stands for the
            start of a name or of one of its parts, since a dialect's names may stand under any prefix.
        layouts: The layouts that these names are used with, the usual one first, or () if with every layout.
        separator: What stands between the name of a block and the name of a layer in it.
        block: A pattern for the name of a block, by the number of convolutions in its branch; 0 for any number.
        tables: The names by section, kind of layer and number of convolutions; 0 for any number.
        freezes_norms: Whether files may lack all running statistics, which are then 0 and 1 less the norm's epsilon.
        note: What the user should know about every file in this dialect.
    """

    name: str
    title: str
    patterns: tuple[re.Pattern[str], ...]
    layouts: tuple[str, ...]
    separator: str
    block: Mapping[int, str]
    tables: Mapping[tuple[str, str, int], RoleNames]
    freezes_norms: bool = False
    note: str = ""

    @property
    def layout(self) -> str | None:
        """The layout in which files are written in these names, or None for the target's."""
        return self.layouts[0] if self.layouts else None

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
        if role.section in ("stem", "transition", "head"):
            return last, kind
        block = self.block.get(0) or self.block.get(role.convs)
        return None if block is None else (f"{_fill_pattern(block, role)}{self.separator}{last}", kind)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """The name of an array in a layout, and the order of its axes; () for PyTorch's order.

    ``ones`` axes of one stand in front of an array of one axis. ``pattern`` replaces the layout's.
    """

    name: str
    axes: tuple[int, ...] = ()
    ones: int = 0
    pattern: str = ""


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
    def end(self) -> str:
        """The end of the normalized name of a convolution's weight, behind the layer's."""
        name = self.arrays.get(("conv", "weight"), ArrayLayout("weight")).name
        end = self.parameter.partition("{layer}")[2].replace("{array}", name)
        return end.replace("/", ".").removesuffix(".value")

    def remove_collection(self, name: str) -> str:
        """Return a stored name without the collection in front of the layer, such as ``params/``.

        Files nest collections and modules in either order.
        """
        for pattern in (self.parameter, self.statistic):
            collection = pattern.partition("{layer}")[0]
            if collection and name.startswith(collection):
                return name.removeprefix(collection)
        return name


@cache
def load_dialects() -> dict[str, Dialect]:
    """Return the dialects by name."""
    tables = sorted(path for path in files(_PACKAGE).iterdir() if path.name.endswith(".yaml"))  # type: ignore[type-var]
    dialects = [_parse_dialect(path.name.removesuffix(".yaml"), _load_yaml(path.read_text("utf-8"))) for path in tables]
    return {dialect.name: dialect for dialect in dialects}


@cache
def load_layouts() -> dict[str, Layout]:
    """Return the layouts by name."""
    tables = _load_yaml((files(_PACKAGE) / "layouts.yml").read_text("utf-8"))
    return {name: _parse_layout(name, table) for name, table in tables.items()}


def _load_yaml(text: str) -> Any:
    """Parse a table by libyaml, if PyYAML has it: ten times as fast, and whatever reads a checkpoint needs them all."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _parse_dialect(name: str, table: dict[str, Any]) -> Dialect:
    title, layouts, separator = table.pop("title"), table.pop("layout", []), table.pop("separator", ".")
    layouts = (layouts,) if isinstance(layouts, str) else tuple(layouts)
    patterns, block = tuple(map(_compile_pattern, table.pop("patterns"))), table.pop("block")
    freezes_norms, note = table.pop("freezes_norms", False), table.pop("note", "")
    tables = {}
    for section, content in table.items():
        for convs, kinds in (content if _is_by_convs(content) else {0: content}).items():
            for kind, names in kinds.items():
                is_other_kind = isinstance(names, dict)
                tables[section, kind, convs] = (
                    RoleNames(names["names"], names["as"]) if is_other_kind else RoleNames(names)
                )
    blocks = block if isinstance(block, dict) else {0: block}
    return Dialect(name, title, patterns, layouts, separator, blocks, tables, freezes_norms, note)


def _compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for a text with one name on each line."""
    return re.compile(pattern.replace("^", r"(?:^|\.)").replace(r"\d", "[0-9]"), re.MULTILINE)


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
            layouts[kind, array] = ArrayLayout(
                options.get("name", array),
                tuple(options.get("axes", ())),
                options.get("ones", 0),
                options.get("pattern", ""),
            )
    return Layout(name, title, parameter, statistic, layouts)


def _pick_name(names: Names, role: Role) -> str | None:
    if isinstance(names, str):
        return _fill_pattern(names, role)
    return _fill_pattern(names[role.index], role) if role.index < len(names) else None


def _fill_pattern(pattern: str, role: Role) -> str:
    return _FIELD.sub(lambda field: _fill_field(getattr(role, field[1]), field[2], field[3]), pattern)


def _fill_field(value: int | str, addend: str | None, digits: str | None) -> str:
    return value if isinstance(value, str) else f"{value + int(addend or 0):0{digits or 1}}"
