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

from resnet_spec.diagnostics.problems import Problem, SpecError, quote
from resnet_spec.diagnostics.suggestions import nearest
from resnet_spec.diagnostics.yaml_pitfalls import explain_pitfall
from resnet_spec.language.spec import Word
from resnet_spec.ops import OPS, AtLeast, Below

Literally: TypeAlias = int | float | bool | str

MAX_INTEGER = 2**53  # past it, a reader of JSON rounds
MOST_FLOAT = sys.float_info.max
MAX_NAME_LENGTH = 100  # a path is made of many, and a network of many paths

LAYER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""What a layer or stage may be called."""
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""What a value, a block or a configured layer may be called."""
REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
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
class ArgumentType:
    """What may stand for one argument of an operation."""

    kind: type[int] | type[float] | type[bool] | type[str]
    least: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    required: bool = False


@cache
def operation_arguments(name: str) -> dict[str, ArgumentType]:
    """What the operation of a name takes, from its declaration."""
    return argument_types(OPS[name])


def argument_types(kind: type[Any]) -> dict[str, ArgumentType]:
    """What the fields of a declaration may be, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _argument(hints[field.name], field.default is MISSING) for field in fields(kind)}


def _argument(hint: Any, required: bool) -> ArgumentType:
    if get_origin(hint) is Literal:
        return ArgumentType(str, choices=get_args(hint), required=required)
    limits = getattr(hint, "__metadata__", ())
    least = max((limit.least for limit in limits if isinstance(limit, AtLeast)), default=-math.inf)
    below = min((limit.bound for limit in limits if isinstance(limit, Below)), default=math.inf)
    return ArgumentType(getattr(hint, "__origin__", hint), least, below, (), required)


# -- what a word looks like ---------------------------------------------------------------------------------------


def is_null(word: Word) -> bool:
    """Whether a word is YAML's null."""
    return word.plain and word.text in _NULL


def is_text(word: Word) -> bool:
    """Whether a word is text: not null, true, false or a number, unless in quotes."""
    if not word.plain:
        return True
    return word.text not in _NULL | _TRUE | _FALSE and not _ANY_NUMBER.fullmatch(word.text)


def is_reference(word: Word) -> bool:
    """Whether a word can be the name of something."""
    return len(word.text) <= MAX_NAME_LENGTH and REFERENCE.fullmatch(word.text) is not None and is_text(word)


# -- to a value ---------------------------------------------------------------------------------------------------


def decode(word: Word, argument: ArgumentType, known: Iterable[str] = ()) -> Literally:
    """A word as the argument's type. ``known`` are the names that could stand there. Raises SpecError."""
    if argument.choices:
        return _choice(word, argument.choices)
    if argument.kind is bool:
        return decode_boolean(word)
    value = decode_integer(word, known) if argument.kind is int else decode_number(word, known)
    if value < argument.least:
        raise value_error("RS302", f"expected at least {argument.least:g}, got {word.text}", word)
    if value >= argument.below:
        raise value_error("RS302", f"expected less than {argument.below:g}, got {word.text}", word)
    return value


def decode_integer(word: Word, known: Iterable[str] = (), least: int | None = None) -> int:
    """A whole number. Raises SpecError."""
    if not word.plain or not _INTEGER.fullmatch(word.text):
        raise _expected("a whole number", word, known)
    value = int(word.text) if len(word.text) < 20 else MAX_INTEGER
    if abs(value) >= MAX_INTEGER:
        raise value_error("RS302", f"expected a whole number below 2^53, got {quote(word.text)[1:-1]}", word)
    if least is not None and value < least:
        raise value_error("RS302", f"expected at least {least}, got {word.text}", word)
    return value


def decode_number(word: Word, known: Iterable[str] = ()) -> float:
    """A finite number. Raises SpecError."""
    if not word.plain or not _FLOAT.fullmatch(word.text) or not any(map(str.isdigit, word.text.lower().split("e")[0])):
        raise _expected("a number", word, known)
    value = float(word.text)
    if not math.isfinite(value):
        raise value_error("RS302", f"expected a number that a float can hold, got {quote(word.text)[1:-1]}", word)
    return value


def decode_boolean(word: Word) -> bool:
    """True or false. Raises SpecError."""
    if word.plain and word.text in _TRUE | _FALSE:
        return word.text in _TRUE
    raise _expected("true or false", word, ())


def _choice(word: Word, choices: tuple[str, ...]) -> str:
    if word.text not in choices:
        near = nearest(word.text, choices)
        help = f"did you mean {near!r}?" if near else ""
        raise value_error("RS301", f"expected {join_alternatives(choices)}, got {quote_value(word)}", word, help)
    return word.text


# -- what is wrong with it ----------------------------------------------------------------------------------------


def _expected(what: str, word: Word, known: Iterable[str]) -> SpecError:
    return value_error("RS301", f"expected {what}, got {quote_value(word)}", word, suggest_fix(what, word, list(known)))


def quote_value(word: Word) -> str:
    """A word as a message quotes it."""
    if not word.plain:
        return f"the text {quote(word.text)}"
    return "nothing" if word.text == "" else quote(word.text)


def suggest_fix(what: str, word: Word, known: list[str]) -> str:
    """What would be right, where something else is expected: how to write it, or a name that is near."""
    if len(word.text) > MAX_NAME_LENGTH:
        return ""
    fits = _FITS[what]
    if not word.plain:
        return "a value in quotes is text; write it without them" if re.fullmatch(fits, word.text) else ""
    made = explain_pitfall(word.text, fits)
    if made or not is_reference(word):
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


def join_alternatives(choices: Iterable[str]) -> str:
    """Words as a sentence offers them: ``a, b or c``."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def value_error(code: str, message: str, word: Word, help: str = "") -> SpecError:
    """The error of one problem at a word."""
    return SpecError([Problem(code, message, word.at, help)])
