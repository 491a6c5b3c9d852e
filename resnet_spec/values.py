"""A word to a typed value: what it must be is for the declaration that it fills to say, never for its look.

The scalar rules are YAML 1.2's core: ``010`` is no octal number, ``no`` no boolean, ``1e-5`` a number, a quoted ``'64'`` text.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from resnet_spec.ops import OPS, AtLeast, Below
from resnet_spec.source import Problem, SpecError
from resnet_spec.spec import Word

Literally: TypeAlias = int | float | bool | str

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+|\.)?([eE][-+]?[0-9]+)?")
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_NULL = {"null", "Null", "NULL", "~", ""}
_DIGITS = 20  # more than any value here can have; bounds int()'s work


@dataclass(frozen=True, slots=True)
class Argument:
    """What may stand for one argument of an operation."""

    kind: type[int] | type[float] | type[bool] | type[str]
    least: float
    below: float
    choices: tuple[str, ...]
    required: bool


@cache
def arguments(name: str) -> dict[str, Argument]:
    """What the operation of a name takes, from its declaration."""
    return declared(OPS[name])


def declared(kind: type[Any]) -> dict[str, Argument]:
    """What the fields of a declaration may be, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _argument(hints[field.name], field.default is MISSING) for field in fields(kind)}


def _argument(hint: Any, required: bool) -> Argument:
    if get_origin(hint) is Literal:
        return Argument(str, -math.inf, math.inf, get_args(hint), required)
    limits = getattr(hint, "__metadata__", ())
    least = max((limit.least for limit in limits if isinstance(limit, AtLeast)), default=-math.inf)
    below = min((limit.bound for limit in limits if isinstance(limit, Below)), default=math.inf)
    return Argument(getattr(hint, "__origin__", hint), least, below, (), required)


def typed(word: Word, argument: Argument, known: Iterable[str] = ()) -> Literally:
    """A word as the argument's type. ``known`` are the names that could stand there. Raises SpecError."""
    if argument.choices:
        return _choice(word, argument.choices)
    if argument.kind is bool:
        return boolean(word)
    value = integer(word, known) if argument.kind is int else number(word, known)
    if value < argument.least:
        raise wrong("RS302", f"expected at least {argument.least:g}, got {word.text}", word)
    if value >= argument.below:
        raise wrong("RS302", f"expected less than {argument.below:g}, got {word.text}", word)
    return value


def integer(word: Word, known: Iterable[str] = (), least: int | None = None) -> int:
    """A whole number. Raises SpecError."""
    if not word.plain or not _INTEGER.fullmatch(word.text) or len(word.text) > _DIGITS:
        raise _expected("a whole number", word, known)
    value = int(word.text)
    if least is not None and value < least:
        raise wrong("RS302", f"expected at least {least}, got {word.text}", word)
    return value


def number(word: Word, known: Iterable[str] = ()) -> float:
    """A finite number. Raises SpecError."""
    if not word.plain or not _FLOAT.fullmatch(word.text) or not any(map(str.isdigit, word.text.lower().split("e")[0])):
        raise _expected("a number", word, known)
    value = float(word.text)
    if not math.isfinite(value):
        raise wrong("RS302", f"expected a number that a float can hold, got {word.text}", word)
    return value


def boolean(word: Word) -> bool:
    """True or false. Raises SpecError."""
    if word.plain and word.text in _TRUE | _FALSE:
        return word.text in _TRUE
    raise _expected("true or false", word, ())


def null(word: Word) -> bool:
    """Whether a word is YAML's null."""
    return word.plain and word.text in _NULL


def _choice(word: Word, choices: tuple[str, ...]) -> str:
    if word.text not in choices:
        raise wrong("RS301", f"expected {either(choices)}, got {word.text!r}", word, suggestion(word.text, choices))
    return word.text


def _expected(what: str, word: Word, known: Iterable[str]) -> SpecError:
    return wrong("RS301", f"expected {what}, got {_shown(word)}", word, _remedy(what, word, list(known)))


def _shown(word: Word) -> str:
    if not word.plain:
        return f"the text {word.text!r}"
    return "nothing" if word.text == "" else repr(word.text)


_TRAPS = (
    (re.compile(r"[-+]?0[0-7_]+"), "YAML 1.1 would read it as octal"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?"), "YAML 1.1 would drop the underscores"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"), "YAML 1.1 would read it in base 60"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "write it in base 10"),
    (re.compile(r"(?i)yes|no|on|off|y|n"), "YAML 1.1 would read it as a boolean; write true or false"),
    (re.compile(r"\+[0-9.eE+-]+"), "write it without the plus sign"),
)


def _remedy(what: str, word: Word, known: list[str]) -> str:
    bare = Word(word.text, True, word.at)
    if not word.plain and what != "true or false" and _FLOAT.fullmatch(bare.text) and bare.text:
        return "a value in quotes is text; write it without them"
    for pattern, reading in _TRAPS:
        if word.plain and pattern.fullmatch(word.text):
            return reading
    near = difflib.get_close_matches(word.text, known, n=1)
    if near:
        return f"did you mean the name {near[0]!r}?"
    return f"the names taken here: {', '.join(known)}" if known and re.fullmatch(r"[A-Za-z_]\w*", word.text) else ""


def either(choices: Iterable[str]) -> str:
    """Words as a sentence offers them: ``a, b or c``."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest known one, or all of them if they are few."""
    known = list(known)
    near = difflib.get_close_matches(wrong, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if known else ""


def wrong(code: str, message: str, word: Word, help: str = "") -> SpecError:
    """The error of one problem at a word."""
    return SpecError([Problem(code, message, word.at, help)])
