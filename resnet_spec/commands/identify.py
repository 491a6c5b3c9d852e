"""``identify``: which bundled networks a checkpoint fits."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from resnet_spec.commands.options import DIFFERS, json_option, show, show_json, status_line


@click.command()
@click.argument("file")
@json_option
def identify(file: str, as_json: bool) -> None:
    """Say which bundled networks a checkpoint fits, exactly or but for the head, and which it comes near."""
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.identify import identify

    with status_line() as progress:
        checkpoint, matches = identify(file, progress)
    if as_json:
        show_json({"format": checkpoint.format, "metadata": checkpoint.metadata, "matches": list(map(asdict, matches))})
    else:
        for line in tables.described(checkpoint, matches):
            click.echo(line)
        show(tables.matches(matches))
    if not any(match.how != "near" for match in matches):
        sys.exit(DIFFERS)
