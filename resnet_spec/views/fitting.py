"""Tables in the width of a terminal: columns are left out and names are folded, but no number is cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
    widths = {column.header: _full_width(column, console) for column in table.columns}
    needed = {
        column.header: widths[column.header] if column.no_wrap else min(widths[column.header], _WRAPPED_WIDTH)
        for column in table.columns
    }
    for heading in drop:
        if _sum_widths(needed) <= console.width:
            break
        dropped += [heading] * (needed.pop(heading, None) is not None)
    result = _with_columns(table, needed) if dropped else table
    if dropped:
        words = [word for word in str(table.caption or "").splitlines() if not _is_about(word, dropped)]
        omitted = ", ".join(heading.replace("\n", " ") for heading in dropped)
        result.caption = "\n".join([*words, f"not shown in this width: {omitted}"])
        result.caption_justify = "left"
    if _sum_widths({heading: widths[heading] for heading in needed}) <= console.width:
        return _join_rows(result)
    if _sum_widths(needed) > console.width:
        for column in result.columns:
            if column.justify != "right":
                column.no_wrap, column.overflow = False, "fold"
    return result


def _is_about(note: str, headings: Collection[str]) -> bool:
    """Return whether a line of a caption explains a column that is not there, such as "memory: bytes, ..."."""
    return note.partition(":")[0] in headings


def _with_columns(table: Table, headings: Collection[RenderableType]) -> Table:
    """Return a copy of a table with the columns of some headings."""
    columns = [column for column in table.columns if column.header in headings]
    copy = _copy_columns(table, columns)
    rows = zip(*(column.cells for column in columns), strict=True)
    for row, cells in zip(table.rows, rows, strict=True):
        copy.add_row(*cells, style=row.style, end_section=row.end_section)
    return copy


def _join_rows(table: Table) -> Table:
    """Return a table in which consecutive rows of one style are a row of several lines, which rich prints sooner."""
    if not all(isinstance(cell, str) for column in table.columns for cell in column.cells):
        return table
    copy = _copy_columns(table, table.columns)
    lines: list[Sequence[Any]] = []
    rows = zip(*(column.cells for column in table.columns), strict=True)
    for number, (row, cells) in enumerate(zip(table.rows, rows, strict=True), start=1):
        height = max(cell.count("\n") for cell in cells)
        lines.append([cell + "\n" * (height - cell.count("\n")) for cell in cells])
        if row.end_section or number == len(table.rows) or table.rows[number].style != row.style:
            copy.add_row(*map("\n".join, zip(*lines, strict=True)), style=row.style, end_section=row.end_section)
            lines = []
    return copy


def _copy_columns(table: Table, columns: Sequence[Column]) -> Table:
    copy = Table(
        box=table.box,
        title=table.title,
        title_justify=table.title_justify,
        caption=table.caption,
        caption_justify=table.caption_justify,
        show_header=table.show_header,
        pad_edge=table.pad_edge,
    )
    for column in columns:
        copy.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap, overflow=column.overflow)
    return copy


def _sum_widths(widths: Mapping[RenderableType, int]) -> int:
    return sum(width + _PADDING for width in widths.values()) + 1


def _full_width(column: Column, console: Console) -> int:
    """Return the width of the longest line of a column."""
    unlimited = console.options.update(width=_MAX_WIDTH)
    cells = [column.header, *column.cells]
    if all(isinstance(cell, str) for cell in cells):
        cells = ["\n".join(map(str, cells))]
    return max(Measurement.get(console, unlimited, cell).maximum for cell in cells)
