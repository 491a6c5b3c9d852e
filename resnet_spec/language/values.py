"""A word to a typed value: what it must be is for the declaration that it fills to say, never for its look.

The scalar rules are YAML 1.2's core: ``010`` is no octal number, ``no`` no boolean, ``1e-5`` a number, a quoted ``'64'`` text.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from resnet_spec.diagnostics.problems import Problem, SpecError, shown
from resnet_spec.diagnostics.suggestions import nearest
from resnet_spec.diagnostics.suggestions import suggestion as suggestion
from resnet_spec.diagnostics.yaml_pitfalls import trap
from resnet_spec.language.spec import Word
from resnet_spec.ops import OPS, AtLeast, Below

Literally: TypeAlias = int | float | bool | str

MOST_WHOLE = 2**53  # past it, a reader of JSON rounds
MOST_FLOAT = sys.float_info.max
LONGEST_NAME = 100  # a path is made of many, and a network of many paths

NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""What a layer or stage may be called."""
TAKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""What a value, a block or a configured layer may be called."""
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
"""How something is called for: a name, or that of a bundled block, which may lie in a folder."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+|\.)?([eE][-+]?[0-9]+)?")
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_NULL = {"null", "Null", "NULL", "~", ""}
_ANY_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
"""What YAML 1.2's core takes for a number."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What may stand for one argument of an operation."""

    kind: type[int] | type[float] | type[bool] | type[str]
    least: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    required: bool = False


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
        return Argument(str, choices=get_args(hint), required=required)
    limits = getattr(hint, "__metadata__", ())
    least = max((limit.least for limit in limits if isinstance(limit, AtLeast)), default=-math.inf)
    below = min((limit.bound for limit in limits if isinstance(limit, Below)), default=math.inf)
    return Argument(getattr(hint, "__origin__", hint), least, below, (), required)


# -- what a word looks like ---------------------------------------------------------------------------------------


def null(word: Word) -> bool:
    """Whether a word is YAML's null."""
    return word.plain and word.text in _NULL


def text(word: Word) -> bool:
    """Whether a word is text: not null, true, false or a number, unless in quotes."""
    if not word.plain:
        return True
    return word.text not in _NULL | _TRUE | _FALSE and not _ANY_NUMBER.fullmatch(word.text)


def reference(word: Word) -> bool:
    """Whether a word can be the name of something."""
    return len(word.text) <= LONGEST_NAME and WORD.fullmatch(word.text) is not None and text(word)


# -- to a value ---------------------------------------------------------------------------------------------------


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
    if not word.plain or not _INTEGER.fullmatch(word.text):
        raise _expected("a whole number", word, known)
    value = int(word.text) if len(word.text) < 20 else MOST_WHOLE
    if abs(value) >= MOST_WHOLE:
        raise wrong("RS302", f"expected a whole number below 2^53, got {shown(word.text)[1:-1]}", word)
    if least is not None and value < least:
        raise wrong("RS302", f"expected at least {least}, got {word.text}", word)
    return value


def number(word: Word, known: Iterable[str] = ()) -> float:
    """A finite number. Raises SpecError."""
    if not word.plain or not _FLOAT.fullmatch(word.text) or not any(map(str.isdigit, word.text.lower().split("e")[0])):
        raise _expected("a number", word, known)
    value = float(word.text)
    if not math.isfinite(value):
        raise wrong("RS302", f"expected a number that a float can hold, got {shown(word.text)[1:-1]}", word)
    return value


def boolean(word: Word) -> bool:
    """True or false. Raises SpecError."""
    if word.plain and word.text in _TRUE | _FALSE:
        return word.text in _TRUE
    raise _expected("true or false", word, ())


def _choice(word: Word, choices: tuple[str, ...]) -> str:
    if word.text not in choices:
        near = nearest(word.text, choices)
        help = f"did you mean {near!r}?" if near else ""
        raise wrong("RS301", f"expected {either(choices)}, got {quoted(word)}", word, help)
    return word.text


# -- what is wrong with it ----------------------------------------------------------------------------------------


def _expected(what: str, word: Word, known: Iterable[str]) -> SpecError:
    return wrong("RS301", f"expected {what}, got {quoted(word)}", word, remedy(what, word, list(known)))


def quoted(word: Word) -> str:
    """A word as a message quotes it."""
    if not word.plain:
        return f"the text {shown(word.text)}"
    return "nothing" if word.text == "" else shown(word.text)


def remedy(what: str, word: Word, known: list[str]) -> str:
    """What would be right, where something else is expected: how to write it, or a name that is near."""
    if len(word.text) > LONGEST_NAME:
        return ""
    fits = _FITS[what]
    if not word.plain:
        return "a value in quotes is text; write it without them" if re.fullmatch(fits, word.text) else ""
    made = trap(word.text, fits)
    if made or not reference(word):
        return made
    near = nearest(word.text, known)
    if near:
        return f"did you mean the name {near!r}?"
    own = [name for name in known if name != "in"]
    return f"the names taken here: {', '.join(known)}" if own and len(known) <= 12 else ""


_FITS = {
    "a whole number": _INTEGER.pattern,
    "a number": r"-?[0-9.]+([eE][-+]?[0-9]+)?",
    "true or false": "true|false",
}


def either(choices: Iterable[str]) -> str:
    """Words as a sentence offers them: ``a, b or c``."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def wrong(code: str, message: str, word: Word, help: str = "") -> SpecError:
    """The error of one problem at a word."""
    return SpecError([Problem(code, message, word.at, help)])
