"""The values of a pickle that is read as data: plain values, and records of what unpickling would import or call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""None, a bool, int, float, str, bytes, tuple or list of values, or one of the records below."""


@dataclass(frozen=True, slots=True)
class Global:
    """A function or class, by module and name. It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class PairList:
    """A dictionary as a list of its pairs, so that keys need not be hashed."""

    items: list[tuple[Value, Value]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Call:
    """A call that unpickling would make, with the items and the state that it would then set on the result."""

    function: Value
    arguments: Value
    items: list[tuple[Value, Value]] = field(default_factory=list)
    state: Value = None


@dataclass(frozen=True, slots=True, eq=False)
class PersistentId:
    """A reference to an object outside the pickle, such as a tensor's storage."""

    key: Value


@dataclass(frozen=True, slots=True)
class Pickle:
    """A pickle's value, the persistent IDs in it, and the offset in the file at which the pickle ends."""

    value: Value
    persistent_ids: list[PersistentId]
    end: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A long string of bytes or text, which is left in the file."""

    offset: int
    size: int
    is_text: bool
