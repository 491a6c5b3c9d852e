"""Names and what they stand for: a word is looked up where it was written, never where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from resnet_spec.diagnostics.problems import Problem, Span, SpecError, quote
from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.language.spec import Argument as Written
from resnet_spec.language.spec import Invalid, Project, Spec, Word
from resnet_spec.language.values import ArgumentType, decode
from resnet_spec.ops import Shape

MAX_NESTING = 32

NONE = "none"
IN = "in"


@dataclass(frozen=True, slots=True)
class Bound:
    """Something written, and the names that count where it was written."""

    written: Written
    scope: Scope


Scope: TypeAlias = Mapping[str, Bound]


@dataclass(frozen=True, slots=True)
class Invocation:
    """An operation or a block about to be used: by what name, with which arguments, where."""

    what: Literal["op", "block", "any"]
    target: Bound
    arguments: Mapping[str, Bound]
    names: Mapping[str, Word]
    at: Span
    project: Project | None = None
    index: int | None = None  # of the block in its stage


class NameTable:
    """The names of one network: what it takes, what it configures under ``layers``, and which of them were ever asked for."""

    def __init__(self, spec: Spec) -> None:
        self.layers = spec.layers
        self.scope: dict[str, Bound] = {}
        self.scope |= bind_defaults(spec.takes, self.scope)
        unset = (spec.taken[name] for name, value in spec.takes.items() if value is None)
        self.scope |= {name.text: Bound(Invalid(name.at), {}) for name in unset}
        self.asked: set[int] = set()
        """What was looked up, by identity of what is written."""

    def resolve(self, bound: Bound) -> Bound:
        """What is meant: taken names and those under ``layers`` followed to what they stand for. Raises SpecError."""
        start = bound.written
        for _ in range(MAX_NESTING):
            written = bound.written
            if not isinstance(written, Word):
                return bound
            if written.text in bound.scope:
                bound = bound.scope[written.text]
            elif written.text in self.layers:
                bound = Bound(self.layers[written.text], self.scope)
            elif written.text in PREDEFINED:
                return Bound(Word(PREDEFINED[written.text], True, written.at), {})
            else:
                return bound
            self.asked.add(id(bound.written))
        assert isinstance(start, Word)
        raise SpecError([Problem("RS208", f"{quote(start.text)} is defined by itself", start.at)])

    def typed(self, bound: Bound, argument: ArgumentType) -> int | float | bool | str:
        """The value of a type that is meant. Raises SpecError."""
        return decode(self.word(bound), argument, self.resolve(bound).scope)

    def word(self, bound: Bound) -> Word:
        """The single value that is meant. Raises SpecError, of no problem where it is wrong already."""
        resolve = self.resolve(bound).written
        match resolve:
            case Word():
                return resolve
            case Invalid():
                raise SpecError([])
            case _:
                raise SpecError([Problem("RS201", "expected a single value, got layers or a list", resolve.at)])


def with_input_channels(scope: Scope, input_shape: Shape | None, at: Span) -> Scope:
    """The scope with ``in``: how many channels arrive."""
    return {**scope, IN: Bound(Word(str(input_shape[0]), True, at) if input_shape else Invalid(at), {})}


def bind_defaults(takes: Mapping[str, Written | None], scope: dict[str, Bound]) -> dict[str, Bound]:
    """Taken names at their defaults. A default may use the other names; its own means what it does outside."""
    found: dict[str, Bound] = {}
    for name, value in takes.items():
        if value is not None:
            own = isinstance(value, Word) and value.text == name
            found[name] = Bound(value, {} if own else scope)
    return found
