"""What a pickle that is read as data consists of: plain values, and records of what would be looked up, called or made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""None, a bool, int, float, str, bytes, tuple or list of values, or one of the records below."""


@dataclass(frozen=True, slots=True)
class Named:
    """A function or class, by name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Pairs:
    """A dictionary. Keys are not hashed."""

    items: list[tuple[Value, Value]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Called:
    """What a call would give, with what would be put into it afterwards."""

    function: Value
    arguments: Value
    items: list[tuple[Value, Value]] = field(default_factory=list)
    state: Value = None


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """Something that the pickle holds only a name for."""

    name: Value


@dataclass(frozen=True, slots=True)
class Pickle:
    """A pickle's value, what it names that lies outside of it, and the offset of what follows it in the file."""

    value: Value
    outside: list[Outside]
    end: int


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were left in the file."""

    offset: int
    size: int
    text: bool
