"""A table as text: for a terminal, Markdown, CSV, JSON, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid

from resnet_spec.views.table import NUMBERS, Row, Table, Value, plain, shape

NOTES = {
    "macs": "MACs: multiplications with addition in convolutions and matrix products; FLOPs = 2 x MACs",
    "flops": "MACs: multiplications with addition in convolutions and matrix products; FLOPs = 2 x MACs",
    "share": "share: of the parameters",
    "memory": "memory: bytes, in float32, of all that operations and sums give, as training keeps it",
    "field": "field: receptive field, in pixels of the image's height and width, padding counted",
    "step": "step: cumulative stride, in pixels of the image",
}
_LATEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"})


def notes(columns: Iterable[str]) -> list[str]:
    """What the columns' words mean, where one could guess wrong."""
    return list(dict.fromkeys(NOTES[name] for name in columns if name in NOTES))


def terminal(table: Table, columns: Sequence[str]) -> Grid:
    """For rich to print."""
    grid = Grid(box=SIMPLE_HEAD, title=table.title, title_justify="left", caption_justify="left")
    for name in columns:
        grid.add_column(table.headings[name], justify="right" if name in NUMBERS else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*_cells(row, columns), style=_style(row))
    if table.total:
        grid.add_section()
        grid.add_row(*_total(table, columns), style="bold")
    if table.total and "parameters" in columns and "statistics" not in columns:
        apart: dict[str, Value] = {"path": "running statistics", "parameters": table.total["statistics"]}
        grid.add_row(*(plain("", apart.get(name)) for name in columns))
    grid.caption = "\n".join(notes(columns))
    return grid


def markdown(table: Table, columns: Sequence[str]) -> str:
    """A table in GitHub's Markdown, and what its words mean."""
    head = [table.headings[name] for name in columns]
    rule = ["---:" if name in NUMBERS else "---" for name in columns]
    total = [_total(table, columns)] if table.total else []
    rows = [[cell.replace("|", r"\|") for cell in cells] for cells in (*_bold(table, columns), *total)]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
    return "\n".join([f"**{table.title}**", "", *lines, "", *(f"{note}  " for note in notes(columns))]).rstrip() + "\n"


def latex(table: Table, columns: Sequence[str]) -> str:
    r"""A ``tabular`` for the package booktabs, to stand in a ``table`` of the reader's own."""
    form = "".join("r" if name in NUMBERS else "l" for name in columns)
    lines = [rf"% {table.title}; needs \usepackage{{booktabs}}", rf"\begin{{tabular}}{{{form}}}", r"\toprule"]
    lines += [_latex(table.headings[name] for name in columns), r"\midrule"]
    lines += [_latex(_cells(row, columns), indent=row.depth - 1) for row in table.rows]
    lines += [r"\midrule", _latex(_total(table, columns))] if table.total else []
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in notes(columns))]) + "\n"


def comma_separated(table: Table, columns: Sequence[str]) -> str:
    """CSV of the plain numbers, a heading first, no totals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in table.rows:
        writer.writerow([_bare(row.values[name]) for name in columns])
    return text.getvalue()


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    indent = "  " * (row.depth - 1)
    return [indent * (name == "path") + plain(name, row.values[name]) for name in columns]


def _bold(table: Table, columns: Sequence[str]) -> Iterable[list[str]]:
    """Rows for Markdown: groups stand out in bold, since spaces that indent would be lost."""
    for row in table.rows:
        cells = [plain(name, row.values[name]) for name in columns]
        yield [
            f"**{cell}**" if row.group and name == "path" else cell for name, cell in zip(columns, cells, strict=True)
        ]


def _total(table: Table, columns: Sequence[str]) -> list[str]:
    total = table.total or {}
    return [plain(name, total[name]) if name in total else "" for name in columns]


def _latex(cells: Iterable[str], indent: int = 0) -> str:
    written = [cell.lstrip().translate(_LATEX) for cell in cells]
    return rf"\hspace{{{indent}em}}" * bool(indent) + " & ".join(written) + r" \\"


def _bare(value: Value) -> Any:
    return shape(value) if isinstance(value, tuple) else value


def _style(row: Row) -> str:
    if not row.group:
        return ""
    return "bold" if row.depth == 1 else "dim"
