"""``schema``: the JSON Schema of specs, for editors."""

from __future__ import annotations

import json

import click


@click.command()
@click.option(
    "--block", "at", metavar="ADDRESS", help="Print that of a file with one block, which refers to the other there."
)
def schema(at: str | None) -> None:
    """Print the JSON Schema of specs, for editors."""
    from resnet_spec.language.json_schema import block_schema
    from resnet_spec.language.json_schema import spec_schema as networks

    click.echo(json.dumps(networks() if at is None else block_schema(at), indent=1))
