"""Expressions of an emitted module: calls of layers, whose values may become arguments of the class around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Raw:
    """An expression as it is written, such as the name of an argument."""

    text: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that is defined once at the head of the module, under a name."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a class or of a function."""

    function: str
    arguments: tuple[Argument, ...] = ()


Atom: TypeAlias = "bool | int | float | str | tuple[int, ...] | Raw | Constant | None"
Value: TypeAlias = "Atom | Call"

Kind: TypeAlias = Literal["", "in", "out"]


class Required:
    """The default of an argument that has none."""


REQUIRED = Required()


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call.

    Attributes:
        name: Its keyword, under which it is written unless it is positional.
        default: The value with which it is left out.
        kind: Whether it is the number of channels that arrive or that leave.
    """

    name: str
    value: Value
    default: Atom | Required = REQUIRED
    is_positional: bool = False
    kind: Kind = ""


def positional(name: str, value: Value, kind: Kind = "") -> Argument:
    """Return an argument that is written without its keyword."""
    return Argument(name, value, REQUIRED, True, kind)


def skeleton(value: Value) -> object:
    """Return what two expressions have in common if they differ in atoms alone."""
    if isinstance(value, Call):
        return value.function, tuple((argument.name, skeleton(argument.value)) for argument in value.arguments)
    return None


def atoms(call: Call) -> Iterator[Argument]:
    """Yield the arguments of a call whose values are atoms, those of calls inside it too."""
    for argument in call.arguments:
        if isinstance(argument.value, Call):
            yield from atoms(argument.value)
        else:
            yield argument


def with_atoms(call: Call, values: Iterator[Atom]) -> Call:
    """Return a call with other atoms, in the order of ``atoms``."""
    arguments = []
    for argument in call.arguments:
        inner = argument.value
        changed = with_atoms(inner, values) if isinstance(inner, Call) else next(values)
        arguments.append(replace(argument, value=changed))
    return Call(call.function, tuple(arguments))


def write_atom(value: Atom) -> str:
    """Return an atom as Python writes it."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Constant):
        return value.name
    return f'"{value}"' if isinstance(value, str) else repr(value)
