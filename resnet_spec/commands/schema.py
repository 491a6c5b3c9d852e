"""The ``schema`` command: print the JSON Schema of specs."""

from __future__ import annotations

import json

import click


@click.command()
@click.option(
    "--block",
    "location",
    metavar="LOCATION",
    help="Print the schema of files with one block, which refers to the schema of specs at this location.",
)
def schema(location: str | None) -> None:
    """Print the JSON Schema of specs, for editors."""
    from resnet_spec.language.json_schema import block_schema, spec_schema

    click.echo(json.dumps(spec_schema() if location is None else block_schema(location), indent=1))
