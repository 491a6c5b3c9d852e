"""The ``identify`` command: find the bundled networks that a checkpoint fits."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    all_option,
    json_option,
    print_fitting,
    print_json,
    status_line,
    under_option,
)


@click.command()
@click.argument("file")
@under_option
@all_option
@json_option
def identify(file: str, under: str | None, as_json: bool) -> None:
    """Find the bundled networks that a checkpoint fits, exactly or but for the head, or nearly fits.

    The exit status is 1 if it fits none.
    """
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.identify import identify
    from resnet_spec.downloads.select import name_published

    with status_line() as progress:
        checkpoint, matches = identify(file, progress, under=under)
    matches = name_published(file, matches)
    if as_json:
        print_json(
            {"format": checkpoint.format, "metadata": checkpoint.metadata, "matches": list(map(asdict, matches))}
        )
    else:
        for line in tables.describe_checkpoint(checkpoint, matches):
            click.echo(line)
        print_fitting(tables.render_matches(matches), tables.OPTIONAL_MATCH_COLUMNS)
    if all(match.how == "near" for match in matches):
        sys.exit(EXIT_DIFFERENT)
