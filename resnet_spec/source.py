"""Where a thing is written, and how a problem with it is shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name it is known by in messages, usually its path."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line ``number``, from 1, without its end; empty past the last."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line of a source. Lines and columns count from 1; ``end`` is one past the last column."""

    source: Source
    line: int
    column: int
    end: int

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


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

    def __str__(self) -> str:
        margin = " " * len(str(max(self.at.line, *(note.at.line for note in self.notes), 0)))
        shown = [f"error[{self.code}]: {self.message}", *_excerpt(self.at, margin)]
        for note in self.notes:
            shown += [f"{margin} = note: {note.message}", *_excerpt(note.at, margin)]
        if self.help:
            shown.append(f"{margin} = help: {self.help}")
        return "\n".join(shown)


class SpecError(ValueError):
    """A spec that can't be used. ``problems`` holds everything found wrong with it, in the order it is written."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.at.line, problem.at.column)))
        super().__init__("\n\n".join(map(str, self.problems)))


def _excerpt(at: Span, margin: str) -> list[str]:
    line = at.source.line(at.line)
    before, marked = line[: at.column - 1], line[at.column - 1 : at.end - 1]
    # A tab keeps the caret in place when it is repeated; a wide character takes two columns of a terminal.
    lead = "".join("\t" if character == "\t" else " " * _columns(character) for character in before)
    carets = "^" * max(1, sum(map(_columns, marked)))
    number = str(at.line).rjust(len(margin))
    return [f"{margin}--> {at}", f"{margin} |", f"{number} | {line}", f"{margin} | {lead}{carets}"]


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
