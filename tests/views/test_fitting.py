"""Every table that a command prints, in narrow terminals: no line is too long, and no number is cut."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
from rich.console import Console

from resnet_spec import load
from resnet_spec.checkpoints.transfer import tables as checkpoint_tables
from resnet_spec.checkpoints.transfer.difference import Difference
from resnet_spec.checkpoints.transfer.identify import Match
from resnet_spec.commands import list as list_command
from resnet_spec.library.index import read_index
from resnet_spec.parity import tables as parity_tables
from resnet_spec.parity.case import Group
from resnet_spec.parity.compare import Finding
from resnet_spec.views import diff_tables, table, table_formats
from resnet_spec.views.fitting import fit_table
from resnet_spec.views.network_diff import diff_networks, diff_stages

WIDTHS = (200, 80, 60)


def matches() -> list[Match]:
    line = "layer4.2.downsample.0.weight (2048, 1024, 1, 1) is missing, and so are the three names after it"
    common: Any = {"names": "its own", "weights": 320, "notes": ()}
    head: Any = {"network": "timm/resnetv2_50x1_bit", "how": "but for the head", "settings": {"classes": 21843}}
    near: Any = {"network": "timm/ecaresnet50d_pruned", "how": "near", "settings": {}}
    partial = Match(**near, **common, same=12, differs=(line, line))
    return [Match(**head, **common, same=318, differs=()), partial, partial]  # cells of several lines beside others


def differences() -> list[Difference]:
    values: Any = {"at": (2047, 1023, 2, 2), "values": (0.1234567, 1.0), "worst": 0.0123, "relative": 0.00456}
    dtypes = ("float32", "bfloat16")
    shapes = ((2048, 1024, 3, 3), (2048, 1024, 3, 3))
    return [Difference("layer4.2.downsample.0.weight", shapes, dtypes, identical=False, **values)]


def findings() -> list[Finding]:
    common: Any = {"network": "my_network_of_a_long_name", "dtype": "float64", "reference": "numpy", "where": "conv1"}
    backends, groups = ("torch", "third_party_backend"), get_args(Group)
    return [
        Finding(**common, backend=backend, group=group, count=1234, worst=1.25e-15 * at, gate=1e-14, errors={})
        for backend in backends
        for at, group in enumerate(groups, start=1)
    ]


TABLES: dict[str, tuple[Callable[[], Any], Sequence[str]]] = {
    "list": (lambda: list_command._render_table(read_index()), list_command.OPTIONAL_COLUMNS),
    "stages": (
        lambda: diff_tables.render_stages(
            diff_stages(load("resnet50"), load("timm/resnet50d")), "resnet50", "timm/resnet50d"
        ),
        diff_tables.OPTIONAL_HEADINGS,
    ),
    "changes": (
        lambda: diff_tables.render_changes(diff_networks(load("resnet50"), load("timm/resnet50d"))),
        (),
    ),
    "show": (
        lambda: table_formats.render_terminal(table.build_table(load("resnet50")), table.DEFAULT_COLUMNS),
        [table.COLUMNS[name] for name in table.OPTIONAL_COLUMNS],
    ),
    "show --columns": (
        lambda: table_formats.render_terminal(table.build_table(load("resnet18")), tuple(table.COLUMNS)),
        [*reversed(table.COLUMNS.values())][:-1],
    ),
    "compare": (
        lambda: table_formats.render_terminal(
            table.compare_networks([(name, load(name)) for name in ("resnet18", "timm/regnety_1280")]),
            tuple(table.NETWORK_COLUMNS),
        ),
        [table.NETWORK_COLUMNS[name] for name in table.OPTIONAL_NETWORK_COLUMNS],
    ),
    "parity": (lambda: parity_tables.to_table(findings()), parity_tables.OPTIONAL_COLUMNS),
    "identify": (lambda: checkpoint_tables.render_matches(matches()), checkpoint_tables.OPTIONAL_MATCH_COLUMNS),
    "nothing": (lambda: list_command._render_table([]), list_command.OPTIONAL_COLUMNS),
    "weights diff": (
        lambda: checkpoint_tables.render_differences(differences()),
        checkpoint_tables.OPTIONAL_DIFFERENCE_COLUMNS,
    ),
}
"""Each table, and the headings of the columns that may be left out."""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.share(4)
def test_no_line_is_too_long_and_no_number_is_cut(name: str, width: int) -> None:
    make, drop = TABLES[name]
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    fitted = fit_table(make(), console, drop)
    console.print(fitted)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    cells = [str(cell) for column in fitted.columns if column.justify == "right" for cell in column.cells]
    numbers = {number for cell in cells for number in cell.splitlines()}
    assert {number for number in numbers if not re.search(rf"(?<!\S){re.escape(number)}(?!\S)", text)} == set()


def test_verdicts_come_first_and_stay() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True)
    table = fit_table(parity_tables.to_table(findings()), console, parity_tables.OPTIONAL_COLUMNS)
    assert [column.header for column in table.columns] == ["verdict", "backend", "compared", "worst"]
    assert str(table.title) == "my_network_of_a_long_name"
    assert str(table.caption).endswith("not shown in this width: arrays, with, gate, type")


def test_captions_explain_the_columns_that_are_there() -> None:
    make, drop = TABLES["compare"]
    wide, narrow = (fit_table(make(), Console(width=width), drop) for width in (200, 40))
    assert "memory: bytes" in str(wide.caption)
    assert "memory: bytes" not in str(narrow.caption)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_fits_prints_as_it_is(name: str) -> None:
    make, drop = TABLES[name]
    lines = []
    for printed in (make(), fit_table(make(), Console(width=400), drop)):
        console = Console(file=io.StringIO(), width=400, force_terminal=True)
        console.print(printed)
        lines.append(console.file.getvalue().splitlines())  # type: ignore[attr-defined]  # a StringIO
    assert lines[0] == lines[1]
