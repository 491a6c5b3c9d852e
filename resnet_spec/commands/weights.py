"""The ``weights`` command group: inspect checkpoints."""

from __future__ import annotations

import sys

import click

from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    all_option,
    json_option,
    parse_settings,
    print_fitting,
    print_json,
    set_option,
    spec_option,
    status_line,
)


@click.group()
def weights() -> None:
    """Inspect checkpoints."""


@weights.command("diff")
@click.argument("first")
@click.argument("second")
@spec_option
@set_option
@click.option(
    "--under", multiple=True, metavar="PREFIX", help="Where the weights stand in FIRST and, if given again, in SECOND."
)
@all_option
@json_option
def diff(
    first: str, second: str, spec: str | None, settings: tuple[str, ...], under: tuple[str, ...], as_json: bool
) -> None:
    """Compare the arrays of two checkpoints, which may have different formats.

    Arrays that are in one of them alone, or in another shape, are listed too. The exit status is 1 if any differs.
    """
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.difference import compare_checkpoints

    if len(under) > 2:
        raise click.UsageError("--under is given once or twice")
    places = (under[0] or None if under else None, under[1] or None if len(under) == 2 else None)
    with status_line() as progress:
        differences = compare_checkpoints(first, second, spec, parse_settings(settings), progress, places)
    if as_json:
        print_json([tables.difference_data(difference) for difference in differences])
    else:
        print_fitting(tables.render_differences(differences), tables.OPTIONAL_DIFFERENCE_COLUMNS)
    if not all(difference.identical for difference in differences):
        sys.exit(EXIT_DIFFERENT)
