"""The options and the function with which commands print a table in one of several formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, assert_never, get_args

import click

from resnet_spec.commands.options import print_fitting, print_json

if TYPE_CHECKING:
    from resnet_spec.views.table import Table

Format: TypeAlias = Literal["terminal", "markdown", "csv", "json", "latex"]

format_option = click.option(
    "--format",
    "form",
    default="terminal",
    show_default=True,
    type=click.Choice(get_args(Format)),
    help="Form of the table.",
)
batch_option = click.option(
    "--batch", default=1, show_default=True, type=click.IntRange(1), help="Number of images that costs are counted for."
)


def print_table(table: Table, form: Format, columns: Sequence[str], data: Any, drop: Sequence[str]) -> None:
    """Print some columns of a table, of which those in ``drop`` may be left out in a terminal that is too narrow.

    With the format "json", ``data`` is printed.
    """
    from resnet_spec.views import table_formats

    match form:
        case "terminal":
            print_fitting(table_formats.render_terminal(table, columns), [table.headings[name] for name in drop])
        case "markdown":
            click.echo(table_formats.render_markdown(table, columns), nl=False)
        case "csv":
            click.echo(table_formats.render_csv(table, columns), nl=False)
        case "json":
            print_json(data)
        case "latex":
            click.echo(table_formats.render_latex(table, columns), nl=False)
        case _:
            assert_never(form)
