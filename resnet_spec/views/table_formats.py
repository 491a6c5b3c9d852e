"""Tables as text for a terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid

from resnet_spec.views.table import MACS_NOTE, NUMERIC_COLUMNS, Row, Table, Value, format_shape, format_value

COLUMN_NOTES = {
    "macs": MACS_NOTE,
    "flops": MACS_NOTE,
    "share": "share: of the network's parameters",
    "memory": "memory: bytes, in float32, of the outputs of all operations and additions, which training keeps",
    "field": "field: receptive field, in pixels of the image's height and width, padding included",
    "step": "step: cumulative stride, in pixels of the image",
}
_LATEX_ESCAPES = str.maketrans(
    {character: rf"\{character}" for character in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
_MARKDOWN_ESCAPES = str.maketrans({character: rf"\{character}" for character in "\\`*[|"} | {"<": "&lt;"})


def column_notes(columns: Iterable[str]) -> list[str]:
    """Return the explanations that a reader of these columns needs, each once."""
    return list(dict.fromkeys(COLUMN_NOTES[name] for name in columns if name in COLUMN_NOTES))


def render_terminal(table: Table, columns: Sequence[str]) -> Grid:
    """Return a table that rich can print."""
    grid = Grid(box=SIMPLE_HEAD, title=table.title, title_justify="left", caption_justify="left")
    for name in columns:
        grid.add_column(table.headings[name], justify="right" if name in NUMERIC_COLUMNS else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*_cells(row, columns), style=_row_style(row))
    if table.total:
        grid.add_section()
        grid.add_row(*_total_cells(table, columns), style="bold")
    if table.total and "parameters" in columns and "statistics" not in columns:
        statistics: dict[str, Value] = {"path": "running statistics", "parameters": table.total["statistics"]}
        grid.add_row(*(format_value("", statistics.get(name)) for name in columns))
    grid.caption = "\n".join(column_notes(columns))
    return grid


def render_markdown(table: Table, columns: Sequence[str]) -> str:
    """Return a table in GitHub's Markdown, followed by notes on its columns."""
    head = [table.headings[name] for name in columns]
    rule = ["---:" if name in NUMERIC_COLUMNS else "---" for name in columns]
    total = [_total_cells(table, columns)] if table.total else []
    rows = (*_markdown_rows(table, columns), *total)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
    notes = (f"{note}  " for note in column_notes(columns))  # two spaces: a line break in Markdown
    return "\n".join([f"**{table.title.translate(_MARKDOWN_ESCAPES)}**", "", *lines, "", *notes]).rstrip() + "\n"


def render_latex(table: Table, columns: Sequence[str]) -> str:
    r"""Return a ``tabular`` for the package booktabs, without the ``table`` environment around it."""
    alignment = "".join("r" if name in NUMERIC_COLUMNS else "l" for name in columns)
    lines = [rf"% {table.title}; needs \usepackage{{booktabs}}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines += [_latex_row(table.headings[name] for name in columns), r"\midrule"]
    lines += [_latex_row(_cells(row, columns), indent=row.depth - 1) for row in table.rows]
    lines += [r"\midrule", _latex_row(_total_cells(table, columns))] if table.total else []
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in column_notes(columns))]) + "\n"


def render_csv(table: Table, columns: Sequence[str]) -> str:
    """Return CSV with a header and unformatted numbers, without the totals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in table.rows:
        writer.writerow([_csv_value(row.values[name]) for name in columns])
    return text.getvalue()


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    indent = "  " * (row.depth - 1)
    return [indent * (name == "path") + format_value(name, row.values[name]) for name in columns]


def _markdown_rows(table: Table, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the cells of each row, with the paths of groups in bold, since Markdown drops indentation."""
    for row in table.rows:
        cells = {name: format_value(name, row.values[name]).translate(_MARKDOWN_ESCAPES) for name in columns}
        if row.group and "path" in cells:
            cells["path"] = f"**{cells['path']}**"
        yield [cells[name] for name in columns]


def _total_cells(table: Table, columns: Sequence[str]) -> list[str]:
    total = table.total or {}
    return [format_value(name, total[name]) if name in total else "" for name in columns]


def _latex_row(cells: Iterable[str], indent: int = 0) -> str:
    escaped = [cell.lstrip().translate(_LATEX_ESCAPES) for cell in cells]
    return rf"\hspace{{{indent}em}}" * bool(indent) + " & ".join(escaped) + r" \\"


def _csv_value(value: Value) -> Any:
    return format_shape(value) if isinstance(value, tuple) else value


def _row_style(row: Row) -> str:
    if not row.group:
        return ""
    return "bold" if row.depth == 1 else "dim"
