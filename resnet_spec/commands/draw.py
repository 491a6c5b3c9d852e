"""``draw``: a network as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from resnet_spec.commands.options import depth_option, extent_option, levels, loaded, set_option
from resnet_spec.views.drawing.render import FORMATS, Format, draw
from resnet_spec.views.drawing.theme import Direction, Theme


@click.command("draw")
@click.argument("spec")
@click.option("-o", "--output", required=True, metavar="FILE", help="What to write: .svg, .png, .pdf, .mmd or .dot.")
@click.option("--unfold", is_flag=True, help="Draw every block, where several alike would be one with a count.")
@click.option(
    "--theme", default="auto", type=click.Choice(get_args(Theme)), help="[default: auto, which turns with the page]"
)
@click.option(
    "--direction", type=click.Choice(get_args(Direction)), help="How stages follow. [default: across; .mmd, .dot: down]"
)
@depth_option
@extent_option
@set_option
def draw_(
    spec: str,
    output: str,
    unfold: bool,
    theme: Theme,
    direction: Direction | None,
    depth: str,
    extent: str | None,
    settings: tuple[str, ...],
) -> None:
    """Draw a network: its stages, blocks and layers, and their shortcuts: solid for the identity, dashed for a projection."""
    ending = Path(output).suffix.lower()
    form: Format | None = next((known for known in FORMATS if f".{known}" == ending), None)
    if form is None:
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise click.UsageError(f"--output ends in one of {endings}, not {Path(output).name!r}")
    level = levels(depth)
    network = loaded(spec, settings, None, extent)
    drawn = draw(network, form, theme=theme, depth=level, unfold=unfold, direction=direction)
    Path(output).write_bytes(drawn)
