"""The ``draw`` command: draw a network."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.commands.options import (
    depth_option,
    extent_option,
    json_option,
    load_network,
    parse_depth,
    print_json,
    set_option,
)
from resnet_spec.views.drawing.render import FORMATS, Format, draw
from resnet_spec.views.drawing.theme import Direction, Theme


@click.command("draw")
@click.argument("spec")
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The file to write: .svg, .png, .pdf, .mmd or .dot."
)
@click.option("--unfold", is_flag=True, help="Draw every block, and not one of several equal ones with their number.")
@click.option(
    "--theme",
    default="auto",
    type=click.Choice(get_args(Theme)),
    help="Colours; auto follows the system in .svg. [default: auto]",
)
@click.option(
    "--direction",
    type=click.Choice(get_args(Direction)),
    help="How stages follow each other. [default: across; .mmd, .dot: down]",
)
@depth_option
@extent_option
@set_option
@json_option
def draw_(
    spec: str,
    output: str,
    unfold: bool,
    theme: Theme,
    direction: Direction | None,
    depth: str,
    extent: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw a network with its stages, blocks and layers.

    A shortcut is a solid line if it is the identity, and a dashed line if it is a projection.
    """
    suffix = Path(output).suffix.lower()
    file_format: Format | None = next((name for name in FORMATS if f".{name}" == suffix), None)
    if file_format is None:
        suffixes = ", ".join(f".{name}" for name in FORMATS)
        raise click.UsageError(f"--output must end in one of {suffixes}, not {Path(output).name!r}")
    level = parse_depth(depth)
    network = load_network(spec, settings, None, extent)
    drawing = draw(network, file_format, theme=theme, depth=level, unfold=unfold, direction=direction)
    write_file(output, drawing)
    if as_json:
        print_json({"network": network.name, "file": output, "format": file_format, "bytes": len(drawing)})
