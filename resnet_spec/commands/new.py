"""``new``: a first file of one's own."""

from __future__ import annotations

import os.path
from pathlib import Path

import click

from resnet_spec.language.template import render_template
from resnet_spec.library import bundled
from resnet_spec.library.load import find_source, load_document, loads


@click.command()
@click.argument("file")
@click.option(
    "--like", default="resnet18", show_default=True, help="The network to start from: a bundled name or a file."
)
def new(file: str, like: str) -> None:
    """Write a commented spec to start from, which extends another."""
    path = Path(file)
    base = find_source(like)
    extends = like.removesuffix(".yaml") if bundled.find(like) == base else os.path.relpath(like, path.parent)
    text = render_template(file, path.name.removesuffix(".yaml"), like, Path(extends).as_posix(), load_document(base))
    loads(text, name=file)  # what is wrong with the base is told, and nothing written
    try:
        with path.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise click.UsageError(f"{file} is there already; it is left as it is") from None
    click.echo(f"{file} is written: change it, and try it with resnet-spec check {file}")
