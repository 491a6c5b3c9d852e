"""Lexical scopes: what a name stands for depends on where it is written, not on where it is used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from resnet_spec.diagnostics.problems import Problem, Span, SpecError, quote
from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.language.spec import Argument as Written
from resnet_spec.language.spec import Group, Invalid, Project, Spec, Values
from resnet_spec.language.values import ArgumentType, ArgumentValue, decode
from resnet_spec.ops import Shape
from resnet_spec.syntax.nodes import Scalar

MAX_NESTING = 32

NONE = "none"
IN = "in"


@dataclass(frozen=True, slots=True)
class Bound:
    """A closure: a value as written, with the names in scope where it is written."""

    written: Written
    scope: Scope


Scope: TypeAlias = Mapping[str, Bound]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One use of an operation or a block: its name, its arguments and its place.

    Attributes:
        keys: The keys of the arguments as written.
        index: The index of a block among repeated ones.
        taken_elsewhere: The arguments that a different one of the repeated blocks takes.
    """

    what: Literal["op", "block", "any"]
    target: Bound
    arguments: Mapping[str, Bound]
    keys: Mapping[str, Scalar]
    span: Span
    project: Project | None = None
    index: int | None = None
    taken_elsewhere: frozenset[str] = frozenset()


class NameTable:
    """The names that a network defines under ``takes`` and ``layers``, and which of them were used."""

    def __init__(self, spec: Spec) -> None:
        self.layers = spec.layers
        self.scope: dict[str, Bound] = {}
        self.scope |= bind_defaults(spec.takes, self.scope)
        unset = (spec.takes_keys[name] for name, value in spec.takes.items() if value is None)
        self.scope |= {name.text: Bound(Invalid(name.span), {}) for name in unset}
        self.used: set[tuple[str, str]] = set()
        """The names that layers of the network refer to, each with the key that defines it, "takes" or "layers"."""
        self.mentioned: set[tuple[str, str]] = set()
        """The names that only layers which the network leaves out refer to, in the same form."""

    @contextmanager
    def mentioning(self) -> Iterator[None]:
        """While the context is active, record names as mentioned and not as used."""
        used, self.used = self.used, self.mentioned
        yield
        self.mentioned, self.used = self.used, used

    def resolve(self, bound: Bound, words: Collection[str] = ()) -> Bound:
        """Return what a name stands for, following ``takes``, ``layers`` and the predefined names. Raises SpecError.

        ``words`` are words of the language, which stand for themselves even where a name is the same.
        """
        start = definition = bound.written  # or, where that is a name under ``layers``, its value there
        for _ in range(MAX_NESTING):
            written = bound.written
            if not isinstance(written, Scalar):
                return bound
            name = written.text
            if name in words:
                return bound
            if name in bound.scope:
                bound = bound.scope[name]
                if bound is self.scope.get(name):  # otherwise it is an argument of a block, with the same name
                    self.used.add(("takes", name))
            elif name in self.layers:
                if definition is start:
                    definition = self.layers[name]
                bound = Bound(self.layers[name], self.scope)
                self.used.add(("layers", name))
            elif name in PREDEFINED:
                return Bound(Scalar(PREDEFINED[name], True, written.span), {})
            else:
                return bound
        assert isinstance(start, Scalar)
        raise SpecError([Problem("RS208", f"{quote(start.text)} is defined in terms of itself", definition.span)])

    def decode(self, bound: Bound, argument: ArgumentType) -> ArgumentValue:
        """Return the typed value that a name or a literal stands for. Raises SpecError."""
        resolved = self.resolve(bound, argument.words)
        if isinstance(resolved.written, Scalar) and resolved.written.text in argument.words:
            return resolved.written.text
        items = self.items(resolved) if argument.is_pair else None
        if items is None:
            return decode(self.scalar(bound), argument, resolved.scope)
        if len(items) != 2:
            message = f"expected one value, or [height, width], got {len(items)} values"
            raise SpecError([Problem("RS301", message, resolved.written.span)])
        single = replace(argument, words=())
        height, width = (decode(self.scalar(item), single, resolved.scope) for item in items)
        return int(height), int(width)

    def items(self, bound: Bound) -> list[Bound] | None:
        """Return the items of a list of single values, as closures; None if it is no such list."""
        match bound.written:
            case Values(items=items):
                return [Bound(item, bound.scope) for item in items]
            case Group(layers=layers, is_numbered=True) if all(isinstance(layer, Scalar) for _, layer in layers):
                return [Bound(layer, bound.scope) for _, layer in layers]
            case _:
                return None

    def scalar(self, bound: Bound) -> Scalar:
        """Return the single value that a name stands for.

        Raises SpecError, which holds no problems if the value is invalid and that is reported already.
        """
        resolved = self.resolve(bound).written
        match resolved:
            case Scalar():
                return resolved
            case Invalid():
                raise SpecError([])
            case _:
                raise SpecError([Problem("RS201", "expected a single value, got layers or a list", resolved.span)])


def with_input_channels(scope: Scope, input_shape: Shape | None, span: Span) -> Scope:
    """Return the scope with the name ``in``, which is the number of input channels."""
    return {**scope, IN: Bound(Scalar(str(input_shape[0]), True, span) if input_shape else Invalid(span), {})}


def bind_defaults(takes: Mapping[str, Written | None], scope: dict[str, Bound]) -> dict[str, Bound]:
    """Bind arguments to their defaults, which may refer to each other.

    A default that is the argument's own name, as in ``norm: norm``, refers to the definition outside.
    """
    bound: dict[str, Bound] = {}
    for name, value in takes.items():
        if value is not None:
            is_own_name = isinstance(value, Scalar) and value.text == name
            bound[name] = Bound(value, {} if is_own_name else scope)
    return bound


def integer_arguments(names: Iterable[str], scope: Scope) -> tuple[tuple[str, int], ...]:
    """Return those of a block's arguments whose value is an integer, without recording that any name is used."""
    values = ((name, _follow_names(scope[name])) for name in names)
    return tuple((name, int(text)) for name, text in values if text.isdecimal() and len(text) < 20)


def _follow_names(bound: Bound) -> str:
    """Return the text of the single value that a name stands for in the scopes around it; "" if it is none."""
    for _ in range(MAX_NESTING):
        if not isinstance(bound.written, Scalar):
            return ""
        if bound.written.text not in bound.scope:
            return bound.written.text
        bound = bound.scope[bound.written.text]
    return ""
