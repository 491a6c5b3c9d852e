"""The ``show`` command: show every layer of a network in a table or on a page."""

from __future__ import annotations

import click

from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.commands.options import (
    depth_option,
    extent_option,
    input_option,
    json_option,
    load_network,
    parse_depth,
    set_option,
)
from resnet_spec.commands.output import Format, batch_option, format_option, print_table
from resnet_spec.library.load import find_source, find_sources


@click.command("show")
@click.argument("spec")
@depth_option
@click.option("--columns", "names", metavar="NAME,...", help="The columns to show, out of those listed above.")
@batch_option
@format_option
@click.option("--html", metavar="FILE", help="Write a page for a browser instead, with drawing, table and YAML.")
@extent_option
@set_option
@input_option
@json_option
def show_(
    spec: str,
    depth: str,
    names: str | None,
    batch: int,
    form: Format,
    html: str | None,
    extent: str | None,
    settings: tuple[str, ...],
    size: str | None,
    as_json: bool,
) -> None:
    """Show every layer of a network with its shapes, parameters and costs.

    Columns: path, operation, in, out, kernel, stride, parameters, share (of the parameters), statistics, macs, flops,
    memory, field (the receptive field), step (the cumulative stride).
    """
    from resnet_spec.views import table

    level = parse_depth(depth)
    columns = table.parse_columns(names) if names else None
    network = load_network(spec, settings, size, extent)
    if html:
        from resnet_spec.views.page.page import render_page

        write_file(html, render_page(network, find_sources(find_source(spec))))
        return
    form = "json" if as_json else form
    # Programs may add up a column of CSV or JSON, so rows that contain other rows are left out there.
    layers = table.build_table(network, level, batch, grouped=form not in ("csv", "json"))
    data = {**table.summarize_costs(network, batch), "layers": [row.values for row in layers.rows]}
    drop = tuple(reversed(columns[1:])) if columns else table.OPTIONAL_COLUMNS
    print_table(layers, form, columns or table.DEFAULT_COLUMNS, data, drop)
