"""A text to YAML events: which characters it may hold, which parser is heard, and what a text that is not YAML is told.

PyYAML has two parsers. libyaml's is ten times as fast, but the two do not refuse the same texts: libyaml takes a tab that the
other does not, and trips over ``{depth:,3}``. So that a spec means the same wherever it is read, what libyaml refuses, and what
holds one of the few characters that they differ on, is read again by the one written in Python, and its verdict counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Source, Span

MAX_CHARACTERS = 2**20
MAX_CHARACTERS_PURE_PYTHON = 2**18
"""The limit where libyaml is missing, so that refusing takes as little time; past it, libyaml's verdict counts alone."""

PURE_PYTHON_LOADER: Any = yaml.SafeLoader
LIBYAML_LOADER: Any = getattr(yaml, "CSafeLoader", None)

_CONTROL = re.compile("[^\t\n\r -~]")

_COMMENT = re.compile(r"""^([^'"#\n]* )?#[^'"\n]*$""", re.MULTILINE)
_DIFFERENT = re.compile(r"[\t?!]|[|>][-+0-9]*#")
"""What the two parsers may read differently, outside comments: found by reading mutated texts with both."""


def choose_loaders(source: Source, problems: Problems) -> list[Any]:
    """The parsers to read a text with, until one takes it. Raises SpecError if its characters alone refuse it."""
    text = source.text
    most = MAX_CHARACTERS if LIBYAML_LOADER else MAX_CHARACTERS_PURE_PYTHON
    length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if length > most:
        problems.report("RS104", f"the file has {length:,} bytes; the limit is {most:,}", Span(source, 1, 1, 2))
        problems.stop()
    unfit = find_forbidden_character(text)
    if unfit:
        problems.report("RS105", describe_forbidden_character(unfit.group()), source.at(unfit.start()), "take it away")
        problems.stop()
    if LIBYAML_LOADER is None:
        return [PURE_PYTHON_LOADER]
    if length > MAX_CHARACTERS_PURE_PYTHON:
        return [LIBYAML_LOADER]
    return (
        [PURE_PYTHON_LOADER] if _DIFFERENT.search(_COMMENT.sub(r"\1", text)) else [LIBYAML_LOADER, PURE_PYTHON_LOADER]
    )


def find_forbidden_character(text: str) -> re.Match[str] | None:
    """The first character that a spec can't hold."""
    return (_CONTROL if text.isascii() else _unfit()).search(text)


def describe_forbidden_character(unfit: str) -> str:
    """What is told of a character that a spec can't hold."""
    import unicodedata  # only where something is wrong

    called = unicodedata.name(unfit, "half of a pair" if "\ud800" <= unfit <= "\udfff" else "a control character")
    return f"a spec can't hold the character U+{ord(unfit):04X}, {called.lower()}"


@cache
def _unfit() -> re.Pattern[str]:
    """What text may not hold: control characters, halves of pairs, marks of byte order, what ends lines in YAML 1.1 alone.

    To compile it takes longer than to read a spec, and few specs need it.
    """
    return re.compile("[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def parse_events(source: Source, parser: Any) -> Iterator[Any]:
    """A text's events. Raises yaml.MarkedYAMLError where it is not YAML."""
    return yaml.parse(source.text, Loader=parser)


def syntax_problem(source: Source, error: yaml.MarkedYAMLError | ValueError) -> Problem:
    """What is told of a text that is not YAML."""
    if isinstance(
        error, ValueError
    ):  # chr() of an escape in double quotes: PyYAML lets that through, and libyaml does not
        escape = re.search(r"\\U(?!000|0010)[0-9A-Fa-f]{8}", source.text)
        at = source.at(escape.start(), 10) if escape else Span(source, 1, 1, 2)
        return Problem("RS101", "not YAML: there is no such character", at, "the last is \\U0010FFFF")
    said = str(error.problem or error.context)
    message, help = next(
        ((message, help) for pattern, message, help in _SAID if re.match(pattern, said)),
        (f"not YAML: {said}", ""),
    )
    at = _place(source, error.problem_mark or error.context_mark)
    began = _place(source, error.context_mark) if error.context_mark else at
    notes = (
        () if (began.line, began.column) == (at.line, at.column) else (Note(f"{error.context}, from here on", began),)
    )
    return Problem("RS101", message, at, help, notes)


_SAID = (
    (r"found character '\\t'", "a tab can't stand here", "YAML is indented with spaces"),
    (r"found character '(.)'", "not YAML: a value can't start with this character", "put the value in quotes"),
    (
        r"mapping values are not allowed",
        "not YAML: a key and its colon can't stand here",
        "is it indented as those around it? a text that holds ': ' goes in quotes",
    ),
    (r"could not find expected ':'", "not YAML: a key without its colon", "a key is followed by ': ' and its value"),
    (
        r"found unexpected end of stream",
        "not YAML: the text ends before the quotes do",
        "close the quotes where the text is to end",
    ),
    (
        r"(expected|did not find expected) ',' or '}'",
        "not YAML: expected a comma or } here",
        "each { needs its }, and a comma stands between two keys; a text that holds one of ,[]{} goes in quotes",
    ),
    (
        r"(expected|did not find expected) ',' or '\]'",
        "not YAML: expected a comma or ] here",
        "each [ needs its ], and a comma stands between two values; a text that holds one of ,[]{} goes in quotes",
    ),
    (
        r"expected <block end>|did not find expected (key|'-' indicator)",
        "not YAML: this fits nothing before it",
        "is it indented as those around it? is a bracket or a quote closed too early?",
    ),
    (r"(expected|did not find expected) the node content", "not YAML: expected a value here", ""),
)


def _place(source: Source, mark: Any) -> Span:
    """A mark's place; past the end of what is written, the end of that."""
    if mark is None:
        return Span(source, 1, 1, 2)
    line, column = mark.line + 1, mark.column + 1
    if not source.line(line).strip():
        end = source.at(len(source.text.rstrip()))
        if line > end.line:
            return end
    return Span(source, line, column, column + 1)
