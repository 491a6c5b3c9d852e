"""Where a thing is written, and how a problem with it is shown."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

MAX_PROBLEMS = 100
"""How many problems are told at once: more than anyone reads, and a bound on the work that a hostile spec makes."""

MAX_EXCERPT_WIDTH = 112
"""How much of a line is shown."""

Level: TypeAlias = Literal["error", "warning"]
Paint: TypeAlias = Callable[[str, str], str]
"""What colours a text by its role: error, warning, strong, frame or aside."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name it is known by in messages, usually its path."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line ``number``, from 1, without its end; empty past the last."""
        lines = _lines(self.text)
        return lines[number - 1] if number <= len(lines) else ""

    def at(self, index: int, length: int = 1) -> Span:
        """The place of a character, counted from 0."""
        before = _split(self.text[:index])
        column = len(before[-1]) + 1
        return Span(self, len(before), column, column + length)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line of a source. Lines and columns count from 1; ``end`` is one past the last column.

    What goes on over several lines is marked on its first. A span of no width is the file as a whole.
    """

    source: Source
    line: int
    column: int
    end: int

    @property
    def file(self) -> str:
        """The source's name: relative to the working directory, where that is shorter."""
        return _near(self.source.name)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Note:
    """Another place that a problem concerns, and what it has to do with it."""

    message: str
    at: Span


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a spec: a stable code, what, where, and if we know it, what would be right."""

    code: str
    message: str
    at: Span
    help: str = ""
    notes: tuple[Note, ...] = ()
    level: Level = "error"

    def __str__(self) -> str:
        return render_problem(self)


class SpecError(ValueError):
    """A spec that can't be used. ``problems`` holds everything found wrong with it, file by file, as it is written."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = list(problems)
        files = list(dict.fromkeys(problem.at.source.name for problem in found))
        self.problems = tuple(sorted(found, key=lambda p: (files.index(p.at.source.name), p.at.line, p.at.column)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.problems))


class Problems:
    """Problems as they are found: none twice, and no more than anyone would read."""

    def __init__(self) -> None:
        self.found: dict[tuple[object, ...], Problem] = {}

    def add(self, problem: Problem, inner: Span | None = None) -> None:
        """Keep a problem. ``inner`` is where it arose, if that is not where it is shown. Raises SpecError past the bound."""
        places = (problem.at, inner or problem.at)
        key = (problem.code, *((at.source.name, at.line, at.column) for at in places))
        if key in self.found:  # as a repeated block makes them: the first will do
            return
        if len(self.found) == MAX_PROBLEMS:
            self.found[key] = Problem("RS104", f"more than {MAX_PROBLEMS} problems; the rest are not told", problem.at)
            self.stop()
        self.found[key] = problem

    def report(self, code: str, message: str, at: Span, help: str = "", notes: tuple[Note, ...] = ()) -> None:
        """Keep a problem made of these."""
        self.add(Problem(code, message, at, help, notes))

    def stop(self) -> None:
        """Raise what is found, if anything is."""
        if self.found:
            raise SpecError(self.found.values())


def quote(text: str) -> str:
    """A text of the user's as a message quotes it: in one line, and not without end."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


# -- a problem as it is printed -----------------------------------------------------------------------------------


def _plain(role: str, text: str) -> str:
    return text


def render_problem(problem: Problem, paint: Paint = _plain) -> str:
    """A problem with the lines that it concerns, and carets beneath what they say wrong."""
    margin = " " * len(str(max(problem.at.line, *(note.at.line for note in problem.notes), 0)))
    title = paint(problem.level, f"{problem.level}[{problem.code}]") + paint("strong", f": {problem.message}")
    whole = problem.at.end == problem.at.column
    lines = [title, *([] if whole else _excerpt(problem.at, margin, problem.level, paint))]
    bar = paint("frame", f"{margin} =")
    for note in problem.notes:
        lines += [f"{bar} {paint('aside', 'note:')} {note.message}", *_excerpt(note.at, margin, "aside", paint)]
    if problem.help:
        lines.append(f"{bar} {paint('aside', 'help:')} {problem.help}")
    return "\n".join(lines)


def _excerpt(at: Span, margin: str, role: str, paint: Paint) -> list[str]:
    line = at.source.line(at.line)
    start, end = at.column - 1, max(at.end - 1, at.column)
    first = max(0, min(start - MAX_EXCERPT_WIDTH // 3, len(line) - MAX_EXCERPT_WIDTH))
    last = first + MAX_EXCERPT_WIDTH
    before, marked, after = line[first:start], line[start : min(end, last)], line[min(end, last) : last]
    head, tail = "..." if first else "", "..." if last < len(line) else ""
    text = head + "".join(map(_visible, before + marked + after)) + tail
    lead = " " * (len(head) + sum(map(_columns, before)))
    carets = paint(role, "^" * max(1, sum(map(_columns, marked))))
    bar = paint("frame", "|")
    number = paint("frame", str(at.line).rjust(len(margin)))
    shown = f"{number} {bar} {text}" if text else f"{number} {bar}"
    return [f"{margin}{paint('frame', '-->')} {at}", f"{margin} {bar}", shown, f"{margin} {bar} {lead}{carets}"]


def _visible(character: str) -> str:
    """A tab as four spaces, wherever it stands, so that the carets stay beneath; what can't be seen, made visible."""
    if character == "\t":
        return "    "
    if character.isascii() and character.isprintable():
        return character
    import unicodedata  # only where there is a problem to draw

    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character).startswith("C") else character


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes, as ``_visible`` shows it."""
    if character == "\t":
        return 4
    if character.isascii():
        return 1
    import unicodedata

    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _near(name: str) -> str:
    if not Path(name).is_absolute():
        return name
    try:
        near = os.path.relpath(name)
    except (OSError, ValueError):  # there is no working directory any more, or it is on another drive
        return name
    return near if len(near) < len(name) else name


def _split(text: str) -> list[str]:
    return re.split("\r\n|\r|\n", text)


_lines = lru_cache(maxsize=4)(_split)
