"""Text to YAML events: the characters that are allowed, the choice of PyYAML's parser, and messages for syntax errors.

PyYAML has two parsers. The one that wraps libyaml is ten times as fast, but the two do not accept the same texts:
libyaml accepts some tabs that the other rejects, and rejects ``{depth:,3}``. A spec has to mean the same wherever it
is read, so the parser in Python decides if libyaml rejects a text, or if the text has one of the few characters on
which they differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Source, Span

MAX_BYTES = 2**20
"""Most bytes of a spec in UTF-8."""
MAX_BYTES_PURE_PYTHON = 2**18
"""Most bytes for the parser in Python, which is slow. Larger texts need libyaml, which then decides alone."""

PURE_PYTHON_LOADER: Any = yaml.SafeLoader
LIBYAML_LOADER: Any = getattr(yaml, "CSafeLoader", None)

_CONTROL = re.compile("[^\t\n\r -~]")

_COMMENT = re.compile(r"""^([^'"#\n]* )?#[^'"\n]*$""", re.MULTILINE)
_AMBIGUOUS = re.compile(r"[\t?!]|[|>][-+0-9]*#")
"""What the two parsers may read differently outside comments, as found by reading randomly mutated texts with both."""


def choose_loaders(source: Source, problems: Problems) -> list[Any]:
    """Return the parsers to try in order. Raises SpecError if the text is too long or has a forbidden character."""
    text = source.text
    limit = MAX_BYTES if LIBYAML_LOADER else MAX_BYTES_PURE_PYTHON
    length = count_bytes(text)
    if length > limit:
        problems.report("RS104", f"the file has {length:,} bytes; the limit is {limit:,}", Span(source, 1, 1, 2))
        problems.stop()
    forbidden = find_forbidden_character(text)
    if forbidden:
        span = source.locate(forbidden.start())
        problems.report("RS105", describe_forbidden_character(forbidden.group()), span, "remove it")
        problems.stop()
    if LIBYAML_LOADER is None:
        return [PURE_PYTHON_LOADER]
    if length > MAX_BYTES_PURE_PYTHON:
        return [LIBYAML_LOADER]
    if _AMBIGUOUS.search(_COMMENT.sub(r"\1", text)):
        return [PURE_PYTHON_LOADER]
    return [LIBYAML_LOADER, PURE_PYTHON_LOADER]


def count_bytes(text: str) -> int:
    """Return the length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def find_forbidden_character(text: str) -> re.Match[str] | None:
    """Return a match for the first character that is not allowed in specs, or None."""
    return (_CONTROL if text.isascii() else _forbidden_characters()).search(text)


def describe_forbidden_character(character: str) -> str:
    """Return the message for a character that is not allowed in specs."""
    import unicodedata  # loaded only when there is a problem

    fallback = "surrogate" if "\ud800" <= character <= "\udfff" else "control character"
    name = unicodedata.name(character, fallback).lower()
    return f"the character U+{ord(character):04X} ({name}) is not allowed in specs"


@cache
def _forbidden_characters() -> re.Pattern[str]:
    """Return a pattern of control characters, surrogates, byte order marks, and line ends that only YAML 1.1 knows.

    It is compiled on demand: that takes longer than reading a spec, and few specs need it.
    """
    return re.compile("[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def parse_events(source: Source, loader: Any) -> Iterator[Any]:
    """Yield the events of a text. Raises yaml.MarkedYAMLError or ValueError if it is not YAML."""
    return yaml.parse(source.text, Loader=loader)


def syntax_problem(source: Source, error: yaml.MarkedYAMLError | ValueError) -> Problem:
    """Return the problem for an error of PyYAML."""
    if isinstance(error, ValueError):
        # The parser in Python passes the escape in double quotes to chr(), which fails; libyaml reports an error.
        escape = re.search(r"\\U(?!000|0010)[0-9A-Fa-f]{8}", source.text)
        span = source.locate(escape.start(), 10) if escape else Span(source, 1, 1, 2)
        return Problem("RS101", "invalid YAML: there is no such character", span, "the last one is \\U0010FFFF")
    reason = str(error.problem or error.context)
    message, help = next(
        ((message, help) for pattern, message, help in _MESSAGES if re.match(pattern, reason)),
        (f"invalid YAML: {reason}", ""),
    )
    span = _locate(source, error.problem_mark or error.context_mark)
    start = _locate(source, error.context_mark) if error.context_mark else span
    same_place = (start.line, start.column) == (span.line, span.column)
    notes = () if same_place else (Note(f"{error.context} that starts here", start),)
    return Problem("RS101", message, span, help, notes)


_MESSAGES = (
    (r"found character '\\t'", "invalid YAML: a tab is not allowed here", "indent with spaces"),
    (r"found character '(.)'", "invalid YAML: a value cannot start with this character", "put the value in quotes"),
    (
        r"mapping values are not allowed",
        "invalid YAML: a key with a colon is not allowed here",
        "check the indentation; put a text that contains ': ' in quotes",
    ),
    (r"could not find expected ':'", "invalid YAML: a key without a colon", "write ': ' and a value after the key"),
    (
        r"found unexpected end of stream",
        "invalid YAML: the file ends inside quotes",
        "add the closing quote",
    ),
    (
        r"(expected|did not find expected) ',' or '}'",
        "invalid YAML: expected a comma or } here",
        "close each { with }, and separate keys by commas; put a text that contains any of ,[]{} in quotes",
    ),
    (
        r"(expected|did not find expected) ',' or '\]'",
        "invalid YAML: expected a comma or ] here",
        "close each [ with ], and separate values by commas; put a text that contains any of ,[]{} in quotes",
    ),
    (
        r"expected <block end>|did not find expected (key|'-' indicator)",
        "invalid YAML: unexpected text",
        "check the indentation, and whether a bracket or a quote is closed too early",
    ),
    (r"(expected|did not find expected) the node content", "invalid YAML: expected a value here", ""),
)


def _locate(source: Source, mark: Any) -> Span:
    """Return the place of a mark; the end of the text, if only white space follows the mark."""
    if mark is None:
        return Span(source, 1, 1, 2)
    line, column = mark.line + 1, mark.column + 1
    if not source.line(line).strip():
        end = source.locate(len(source.text.rstrip()))
        if line > end.line:
            return end
    return Span(source, line, column, column + 1)
