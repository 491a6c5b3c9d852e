"""``compare``: networks side by side, as a table and as a scatter plot."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from resnet_spec.commands.options import extent_option, json_option, loaded, set_option
from resnet_spec.commands.output import Format, batch_option, format_option, print_table
from resnet_spec.views.drawing.render import require_package
from resnet_spec.views.drawing.theme import Theme
from resnet_spec.views.table import NETWORK_COLUMNS, compare_networks

ENDINGS = (".svg", ".png", ".pdf")


@click.command()
@click.argument("specs", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", help="A scatter plot to write: .svg, .png or .pdf.")
@click.option("--theme", default="auto", type=click.Choice(get_args(Theme)), help="Of the plot. [default: light]")
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
    if output and Path(output).suffix.lower() not in ENDINGS:
        raise click.UsageError(f"--output ends in one of {', '.join(ENDINGS)}, not {Path(output).name!r}")
    found = compare_networks([(spec, loaded(spec, settings, None, extent)) for spec in specs], batch)
    if output:
        require_package("matplotlib", "a scatter plot", "draw")
        from resnet_spec.views import scatter_plot  # here, since matplotlib takes half a second to import

        plot: scatter_plot.Format = next(
            known for known in scatter_plot.FORMATS if f".{known}" == Path(output).suffix.lower()
        )
        Path(output).write_bytes(scatter_plot.draw_scatter_plot(found.rows, plot, theme))
    print_table(found, "json" if as_json else form, list(NETWORK_COLUMNS), [row.values for row in found.rows])
