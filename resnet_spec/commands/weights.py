"""``weights``: look at checkpoints."""

from __future__ import annotations

import sys

import click

from resnet_spec.commands.options import (
    DIFFERS,
    json_option,
    set_option,
    settings_of,
    show,
    show_json,
    spec_option,
    status_line,
)


@click.group()
def weights() -> None:
    """Look at checkpoints."""


@weights.command("diff")
@click.argument("one")
@click.argument("other")
@spec_option
@set_option
@json_option
def diff(one: str, other: str, spec: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Compare two checkpoints array by array, whatever their formats: how far apart, and where."""
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.difference import differences

    with status_line() as progress:
        found = differences(one, other, spec, settings_of(settings), progress)
    if as_json:
        show_json([tables.difference_data(each) for each in found])
    else:
        show(tables.differences(found))
    if not all(each.identical for each in found):
        sys.exit(DIFFERS)
