"""Problems in specs, the places in source texts that they refer to, and how a problem is printed."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

MAX_PROBLEMS = 100
"""Most problems that are reported at once: more than anyone reads, and a bound on the work for a malicious spec."""

MAX_EXCERPT_WIDTH = 112
"""Most characters of a source line that are printed."""

Level: TypeAlias = Literal["error", "warning"]
Paint: TypeAlias = Callable[[str, str], str]
"""A function that colours a text by its role: error, warning, strong, frame or aside."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text and its name in messages, usually its path. A setting of the caller is a text too."""

    name: str
    text: str
    is_setting: bool = False

    def line(self, number: int) -> str:
        """Return a line by its number, which starts at 1, without its line end; "" past the last line."""
        lines = _lines(self.text)
        return lines[number - 1] if number <= len(lines) else ""

    def locate(self, index: int, length: int = 1) -> Span:
        """Return the span of ``length`` characters at an index, which starts at 0."""
        before = _split(self.text[:index])
        column = len(before[-1]) + 1
        return Span(self, len(before), column, column + length)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of columns in one line of a source. Lines and columns start at 1, and ``end`` is exclusive.

    A value that extends over several lines has the span of its part in the first line. An empty span stands for the
    entire file.
    """

    source: Source
    line: int
    column: int
    end: int

    @property
    def file(self) -> str:
        """Return the source's name, as a relative path if that is shorter."""
        return _shortest_path(self.source.name)

    def __str__(self) -> str:
        return f"{one_line(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Note:
    """Another place that is related to a problem, and how."""

    message: str
    span: Span


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a spec: its code, message and place, and a suggestion if there is one."""

    code: str
    message: str
    span: Span
    help: str = ""
    notes: tuple[Note, ...] = ()
    level: Level = "error"

    def __str__(self) -> str:
        return render_problem(self)


class SpecError(ValueError):
    """A spec with problems. ``problems`` holds all of them, grouped by file and sorted by line and column."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unsorted = list(problems)
        files = list(dict.fromkeys(problem.span.source.name for problem in unsorted))
        self.problems = tuple(
            sorted(unsorted, key=lambda p: (files.index(p.span.source.name), p.span.line, p.span.column))
        )
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.problems))


class Problems:
    """A collection of problems without duplicates: one problem for each code and place."""

    def __init__(self) -> None:
        self._problems: dict[tuple[object, ...], Problem] = {}

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems.values())

    def __len__(self) -> int:
        return len(self._problems)

    def copy(self) -> Problems:
        """Return a collection of the same problems."""
        copy = Problems()
        copy._problems = dict(self._problems)
        return copy

    def add(self, problem: Problem, inner: Span | None = None) -> None:
        """Add a problem. Raises SpecError if there are more than ``MAX_PROBLEMS``.

        ``inner`` is the place where it occurs, if the problem is shown at another one.
        """
        places = (problem.span, inner or problem.span)
        key = (problem.code, *((span.source.name, span.line, span.column) for span in places))
        if key in self._problems:  # a repeated block has the same problem each time
            return
        if len(self) == MAX_PROBLEMS:
            self._problems[key] = Problem(
                "RS104", f"more than {MAX_PROBLEMS} problems; the others are not shown", problem.span
            )
            self.stop()
        self._problems[key] = problem

    def report(self, code: str, message: str, span: Span, help: str = "", notes: tuple[Note, ...] = ()) -> None:
        """Add a problem made of these parts."""
        self.add(Problem(code, message, span, help, notes))

    def stop(self) -> None:
        """Raise SpecError if there is a problem."""
        if self:
            raise SpecError(self)


def quote(text: str) -> str:
    """Return a text from a spec in quotes, escaped to one line and shortened to at most 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def one_line(text: str) -> str:
    """Return a text with a replacement character for each invisible one, such as a line end, and spaces for tabs.

    The names of files and of networks may hold anything, and must not pass for other lines of an output.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


# -- printing -----------------------------------------------------------------------------------------------------


def _plain(role: str, text: str) -> str:
    return text


def render_problem(problem: Problem, paint: Paint = _plain) -> str:
    """Return a problem as text: its message, and each line that it concerns with carets beneath the columns."""
    margin = " " * len(str(max(problem.span.line, *(note.span.line for note in problem.notes), 0)))
    title = paint(problem.level, f"{problem.level}[{problem.code}]") + paint("strong", f": {one_line(problem.message)}")
    entire_file = problem.span.end == problem.span.column
    lines = [title, *([] if entire_file else _excerpt(problem.span, margin, problem.level, paint))]
    bar = paint("frame", f"{margin} =")
    for note in problem.notes:
        lines += [
            f"{bar} {paint('aside', 'note:')} {one_line(note.message)}",
            *_excerpt(note.span, margin, "aside", paint),
        ]
    if problem.help:
        lines.append(f"{bar} {paint('aside', 'help:')} {one_line(problem.help)}")
    return "\n".join(lines)


def _excerpt(span: Span, margin: str, role: str, paint: Paint) -> list[str]:
    line = span.source.line(span.line)
    start, end = span.column - 1, max(span.end - 1, span.column)
    first = max(0, min(start - MAX_EXCERPT_WIDTH // 3, len(line) - MAX_EXCERPT_WIDTH))
    last = first + MAX_EXCERPT_WIDTH
    before, marked, after = line[first:start], line[start : min(end, last)], line[min(end, last) : last]
    head, tail = "..." if first else "", "..." if last < len(line) else ""
    text = head + one_line(before + marked + after) + tail
    lead = " " * (len(head) + sum(map(_columns, before)))
    carets = paint(role, "^" * max(1, sum(map(_columns, marked))))
    bar = paint("frame", "|")
    number = paint("frame", str(span.line).rjust(len(margin)))
    shown = f"{number} {bar} {text}" if text else f"{number} {bar}"
    return [f"{margin}{paint('frame', '-->')} {span}", f"{margin} {bar}", shown, f"{margin} {bar} {lead}{carets}"]


def _visible(character: str) -> str:
    """Return a character as it is printed: a tab as four spaces, an invisible character as a replacement character."""
    if character == "\t":
        return "    "
    if character.isascii() and character.isprintable():
        return character
    import unicodedata  # loaded only when a problem is printed

    category = unicodedata.category(character)
    is_invisible = category.startswith("C") or category in ("Zl", "Zp")  # of a control, of lines, of paragraphs
    return "\N{REPLACEMENT CHARACTER}" if is_invisible else character


def _columns(character: str) -> int:
    """Return how many columns of a terminal a character takes, printed by ``_visible``."""
    if character == "\t":
        return 4
    if character.isascii():
        return 1
    import unicodedata

    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _shortest_path(name: str) -> str:
    if not Path(name).is_absolute():
        return name
    try:
        relative = os.path.relpath(name)
    except (OSError, ValueError):  # the working directory was deleted, or is on another drive
        return name
    return relative if len(relative) < len(name) else name


def _split(text: str) -> list[str]:
    return re.split("\r\n|\r|\n", text)


_lines = lru_cache(maxsize=4)(_split)
