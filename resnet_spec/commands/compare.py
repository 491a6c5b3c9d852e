"""The ``compare`` command: compare the costs of networks in a table and a scatter plot."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import click

from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.commands.options import extent_option, json_option, load_network, set_option
from resnet_spec.commands.output import Format, batch_option, format_option, print_table
from resnet_spec.views.drawing.render import require_package
from resnet_spec.views.drawing.theme import Theme
from resnet_spec.views.table import NETWORK_COLUMNS, OPTIONAL_NETWORK_COLUMNS, compare_networks

PLOT_FORMATS: dict[str, Literal["svg", "png", "pdf"]] = {".svg": "svg", ".png": "png", ".pdf": "pdf"}
"""The format of a plot by the suffix of its file."""


@click.command()
@click.argument("specs", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", help="Also write a scatter plot to a .svg, .png or .pdf file.")
@click.option(
    "--theme", default="auto", type=click.Choice(get_args(Theme)), help="Colours of the plot. [default: light]"
)
@format_option
@batch_option
@extent_option
@set_option
@json_option
def compare(
    specs: tuple[str, ...],
    output: str | None,
    theme: Theme,
    form: Format,
    batch: int,
    extent: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare networks by parameters, MACs and activation memory."""
    suffix = Path(output).suffix.lower() if output else ""
    if output and suffix not in PLOT_FORMATS:
        raise click.UsageError(f"--output must end in one of {', '.join(PLOT_FORMATS)}, not {Path(output).name!r}")
    table = compare_networks([(spec, load_network(spec, settings, None, extent)) for spec in specs], batch)
    data = [row.values for row in table.rows]
    print_table(table, "json" if as_json else form, list(NETWORK_COLUMNS), data, OPTIONAL_NETWORK_COLUMNS)
    if output:
        require_package("matplotlib", "a scatter plot", "draw")
        from resnet_spec.views import scatter_plot  # here, since matplotlib takes half a second to import

        write_file(output, scatter_plot.draw_scatter_plot(table.rows, PLOT_FORMATS[suffix], theme))
