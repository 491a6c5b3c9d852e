"""Tables in the width of a terminal: columns are left out and names are folded, but no number is cut."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

_MAX_WIDTH = 10_000
_WRAPPED_WIDTH = 24
"""The least width of a column of sentences: with fewer characters it has a word or two in a line."""
_PADDING = 3
"""The columns of a terminal that rich's box SIMPLE_HEAD puts around each column of a table."""


def fit_table(table: Table, console: Console, drop: Sequence[str] = ()) -> Table:
    """Return a table that fits the width of a console.

    While it is too wide, the columns with the headings ``drop`` are left out, in this order, and the caption says
    which. If it still is too wide, text is folded, and numbers stay as they are.
    """
    dropped: list[str] = []
    kept = list(table.columns)
    for heading in drop:
        if _needed_width(kept, console) <= console.width:
            break
        dropped += [heading] * any(column.header == heading for column in kept)
        kept = [column for column in kept if column.header != heading]
    result = _with_columns(table, kept) if dropped else table
    if dropped:
        words = [word for word in str(table.caption or "").splitlines() if not _is_about(word, dropped)]
        omitted = ", ".join(heading.replace("\n", " ") for heading in dropped)
        result.caption = "\n".join([*words, f"not shown in this width: {omitted}"])
        result.caption_justify = "left"
    if _needed_width(kept, console) > console.width:
        for column in result.columns:
            if column.justify != "right":
                column.no_wrap, column.overflow = False, "fold"
    return result


def _is_about(note: str, headings: Collection[str]) -> bool:
    """Return whether a line of a caption explains a column that is not there, such as "memory: bytes, ..."."""
    return note.partition(":")[0] in headings


def _with_columns(table: Table, columns: Sequence[Column]) -> Table:
    """Return a copy of a table with some of its columns."""
    copy = Table(
        box=table.box,
        title=table.title,
        title_justify=table.title_justify,
        caption=table.caption,
        caption_justify=table.caption_justify,
        show_header=table.show_header,
    )
    for column in columns:
        copy.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap, overflow=column.overflow)
    rows = zip(*(column.cells for column in columns), strict=True)
    for row, cells in zip(table.rows, rows, strict=True):
        copy.add_row(*cells, style=row.style, end_section=row.end_section)
    return copy


def _needed_width(columns: Sequence[Column], console: Console) -> int:
    return sum(_column_width(column, console) + _PADDING for column in columns) + 1


def _column_width(column: Column, console: Console) -> int:
    """Return the width that a column needs: that of its longest cell or, if cells may be wrapped, of a few words."""
    unlimited = console.options.update(width=_MAX_WIDTH)
    sizes = [Measurement.get(console, unlimited, cell) for cell in _cells(column)]
    longest = max((size.maximum for size in sizes), default=0)
    return longest if column.no_wrap else min(longest, _WRAPPED_WIDTH)


def _cells(column: Column) -> Iterator[RenderableType]:
    yield column.header
    yield from column.cells
