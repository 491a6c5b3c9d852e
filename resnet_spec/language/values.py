"""Decode scalars to typed values. The type comes from the declaration of an argument, never from how the text looks.

The rules are those of YAML 1.2's core schema: ``010`` is not octal, ``no`` is not a boolean, ``1e-5`` is a number, and
a quoted ``'64'`` is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from resnet_spec.diagnostics.problems import Problem, SpecError, quote
from resnet_spec.diagnostics.suggestions import find_nearest
from resnet_spec.diagnostics.yaml_pitfalls import explain_pitfall
from resnet_spec.ops import OPS, AtLeast, Below, PerAxis
from resnet_spec.syntax.nodes import Scalar

ArgumentValue: TypeAlias = int | float | bool | str | tuple[int, int]

MAX_INTEGER = 2**53  # JSON readers may round larger integers
MAX_NAME_LENGTH = 100  # paths join many names, and a network has many paths
MAX_TEXT_LENGTH = 1000

CONTROL_CHARACTER = re.compile(r"[\t\n\r\u202a-\u202e\u2066-\u2069]")
"""A character that a spec may hold, but one line of text may not: it could pass for what stands around the text."""
LAYER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""The name of a layer or a stage."""
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""The name of a value, a block or a layer that a file defines."""
REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
"""A reference to a definition: an identifier, or the name of a bundled block, which may contain a folder."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+|\.)?([eE][-+]?[0-9]+)?")
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_NULL = {"null", "Null", "NULL", "~", ""}
_YAML_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
"""Everything that YAML 1.2's core schema reads as a number, including forms that specs do not allow."""


@dataclass(frozen=True, slots=True)
class ArgumentType:
    """The values that an argument accepts: a type, with bounds for a number or choices for text.

    Attributes:
        words: Words that the argument accepts in place of a number.
        is_pair: Whether it also accepts [height, width], two numbers.
    """

    kind: type[int] | type[float] | type[bool] | type[str]
    least: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    required: bool = False
    words: tuple[str, ...] = ()
    is_pair: bool = False


@cache
def operation_arguments(name: str) -> dict[str, ArgumentType]:
    """Return the argument types of an operation by its name."""
    return argument_types(OPS[name])


def argument_types(kind: type[Any]) -> dict[str, ArgumentType]:
    """Return the argument types that the fields of a dataclass declare."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _argument_type(hints[field.name], field.default is MISSING) for field in fields(kind)}


def _argument_type(hint: Any, required: bool) -> ArgumentType:
    if get_origin(hint) is Literal:
        return ArgumentType(str, choices=get_args(hint), required=required)
    limits = getattr(hint, "__metadata__", ())
    least = max((limit.least for limit in limits if isinstance(limit, AtLeast)), default=-math.inf)
    below = min((limit.bound for limit in limits if isinstance(limit, Below)), default=math.inf)
    per_axis = next((limit for limit in limits if isinstance(limit, PerAxis)), None)
    if per_axis is not None:
        return ArgumentType(int, least, below, (), required, per_axis.words, True)
    return ArgumentType(getattr(hint, "__origin__", hint), least, below, (), required)


# -- what kind of scalar it is ------------------------------------------------------------------------------------


def is_null(scalar: Scalar) -> bool:
    """Return whether a scalar is YAML's null."""
    return scalar.plain and scalar.text in _NULL


def is_text(scalar: Scalar) -> bool:
    """Return whether a scalar is text: quoted, or neither null, nor a boolean, nor a number."""
    if not scalar.plain:
        return True
    return scalar.text not in _NULL | _TRUE | _FALSE and not _YAML_NUMBER.fullmatch(scalar.text)


def is_reference(scalar: Scalar) -> bool:
    """Return whether a scalar has the form of a reference to a definition; whether that exists is not checked."""
    has_form = len(scalar.text) <= MAX_NAME_LENGTH and REFERENCE.fullmatch(scalar.text) is not None
    return has_form and is_text(scalar)


# -- decoding -----------------------------------------------------------------------------------------------------


def decode(scalar: Scalar, argument: ArgumentType, known: Iterable[str] = ()) -> int | float | bool | str:
    """Return a scalar as a value of the argument's type. Raises SpecError if it is none.

    ``known`` are the names that could stand in its place; the error suggests one of them.
    """
    if argument.choices:
        return _decode_choice(scalar, argument.choices)
    if scalar.text in argument.words:
        return scalar.text
    if argument.kind is bool:
        return decode_boolean(scalar)
    names = [*known, *argument.words]
    value = decode_integer(scalar, names) if argument.kind is int else decode_number(scalar, names)
    if value < argument.least:
        raise value_error("RS302", f"expected at least {argument.least:g}, got {scalar.text}", scalar)
    if value >= argument.below:
        bound = format_bound(argument.below)
        rounded = f", which float32 rounds to {bound}" if value < float(bound) else ""
        raise value_error("RS302", f"expected less than {bound}, got {scalar.text}{rounded}", scalar)
    return value


def format_bound(bound: float) -> str:
    """Return a bound of a number as messages show it: an integer with all digits.

    >>> format_bound(2**31), format_bound(1 - 2**-25), format_bound(2.0**-126)
    ('2147483648', '1', '1.17549e-38')
    """
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def decode_integer(scalar: Scalar, known: Iterable[str] = (), least: int | None = None) -> int:
    """Return a scalar as an integer, of at least ``least`` if that is given. Raises SpecError if it is none."""
    if not scalar.plain or not _INTEGER.fullmatch(scalar.text):
        raise _type_error("an integer", scalar, known)
    value = int(scalar.text) if len(scalar.text) < 20 else MAX_INTEGER  # a longer text is too large in any case
    if abs(value) >= MAX_INTEGER:
        message = f"expected an integer between -2^53 and 2^53, got {quote(scalar.text)[1:-1]}"
        raise value_error("RS302", message, scalar)
    if least is not None and value < least:
        raise value_error("RS302", f"expected at least {least}, got {scalar.text}", scalar)
    return value


def decode_number(scalar: Scalar, known: Iterable[str] = ()) -> float:
    """Return a scalar as a finite number. Raises SpecError if it is none."""
    mantissa = scalar.text.lower().split("e")[0]
    if not scalar.plain or not _FLOAT.fullmatch(scalar.text) or not any(map(str.isdigit, mantissa)):
        raise _type_error("a number", scalar, known)
    value = float(scalar.text)
    if not math.isfinite(value):
        message = f"expected a number in the range of a float64, got {quote(scalar.text)[1:-1]}"
        raise value_error("RS302", message, scalar)
    return value


def decode_boolean(scalar: Scalar) -> bool:
    """Return a scalar as a boolean. Raises SpecError if it is none."""
    if scalar.plain and scalar.text in _TRUE | _FALSE:
        return scalar.text in _TRUE
    raise _type_error("true or false", scalar, ())


def _decode_choice(scalar: Scalar, choices: tuple[str, ...]) -> str:
    if scalar.text not in choices:
        suggestion = find_nearest(scalar.text, choices)
        help = f"did you mean {suggestion!r}?" if suggestion else ""
        raise value_error("RS301", f"expected {join_alternatives(choices)}, got {quote_value(scalar)}", scalar, help)
    return scalar.text


# -- error messages -----------------------------------------------------------------------------------------------


def _type_error(expected: str, scalar: Scalar, known: Iterable[str]) -> SpecError:
    help = suggest_fix(expected, scalar, list(known))
    return value_error("RS301", f"expected {expected}, got {quote_value(scalar)}", scalar, help)


def quote_value(scalar: Scalar) -> str:
    """Return a scalar as a message shows it."""
    if not scalar.plain:
        return f"the text {quote(scalar.text)}"
    return "nothing" if scalar.text == "" else quote(scalar.text)


def suggest_fix(expected: str, scalar: Scalar, known: list[str]) -> str:
    """Return a hint on how to write the expected kind of value, or which known name may be meant; empty if unknown.

    ``expected`` is "an integer", "a number" or "true or false".
    """
    if len(scalar.text) > MAX_NAME_LENGTH:
        return ""
    pattern = _PATTERNS[expected]
    if not scalar.plain:
        matches = re.fullmatch(pattern, scalar.text)
        return "a value in quotes is text; write it without quotes" if matches else ""
    pitfall = explain_pitfall(scalar.text, pattern)
    if pitfall or not is_reference(scalar):
        return pitfall
    suggestion = find_nearest(scalar.text, known)
    if suggestion:
        return f"did you mean the name {suggestion!r}?"
    own = [name for name in known if name != "in"]
    return f"names that can be used here: {', '.join(known)}" if own and len(known) <= 12 else ""


_PATTERNS = {
    "an integer": _INTEGER.pattern,
    "a number": r"-?[0-9.]+([eE][-+]?[0-9]+)?",
    "true or false": "true|false",
}


def join_alternatives(choices: Iterable[str]) -> str:
    """Join words as alternatives in a sentence.

    >>> join_alternatives(["concat", "add", "mean"])
    'concat, add or mean'
    """
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def value_error(code: str, message: str, scalar: Scalar, help: str = "") -> SpecError:
    """Return a SpecError with one problem, located at a scalar."""
    return SpecError([Problem(code, message, scalar.span, help)])
