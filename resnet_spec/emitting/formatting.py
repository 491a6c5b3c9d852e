"""Lay out Python source within 120 columns, in the form that ``ruff format`` gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

WIDTH = 120
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Row:
    """Pieces of source side by side."""

    pieces: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Bracket:
    """Items in brackets, which stand on lines of their own if they don't fit in one.

    ``separator`` is what stands between them: a comma, or nothing between the clauses of a comprehension. Items of a
    literal that don't fit in one line have a line each; those of a call share one if they fit there.
    """

    opening: str
    items: tuple[Document, ...]
    closing: str
    separator: str = ","
    is_literal: bool = False


Document: TypeAlias = "str | Row | Bracket"
Statement: TypeAlias = tuple[int, Document]
"""A statement, and by how many steps it is indented in its function."""


def flat(document: Document) -> str:
    """Return a document in one line."""
    match document:
        case str():
            return document
        case Row(pieces):
            return "".join(map(flat, pieces))
        case Bracket(opening, items, closing, separator, _):
            return f"{opening}{f'{separator} '.join(map(flat, items))}{closing}"


def lay_out(document: Document, level: int) -> list[str]:
    """Return the lines of a statement that is indented by ``level`` steps."""
    margin = INDENT * level
    line = margin + flat(document)
    if len(line) <= WIDTH or not isinstance(document, Row | Bracket):
        return [line]
    pieces = _pieces(document)
    last = max((index for index, piece in enumerate(pieces) if _can_break(piece)), default=None)
    if last is None:
        return [line]
    bracket = pieces[last]
    assert isinstance(bracket, Bracket)
    head = margin + "".join(map(flat, pieces[:last])) + bracket.opening
    tail = margin + bracket.closing + "".join(map(flat, pieces[last + 1 :]))
    return [head, *_lay_out_items(bracket, level + 1), tail]


def _lay_out_items(bracket: Bracket, level: int) -> list[str]:
    line = INDENT * level + f"{bracket.separator} ".join(map(flat, bracket.items))
    if len(line) <= WIDTH and not bracket.is_literal:
        return [line]
    end = bracket.separator
    return [text for item in bracket.items for text in lay_out(Row((item, end)), level)]


def _pieces(document: Document) -> Sequence[str | Bracket]:
    """Return the pieces of nested rows side by side."""
    if isinstance(document, Row):
        return [piece for inner in document.pieces for piece in _pieces(inner)]
    return [document]


def _can_break(piece: str | Bracket) -> bool:
    return isinstance(piece, Bracket) and bool(piece.items)
