"""The ``new`` command: write a new spec that extends an existing one."""

from __future__ import annotations

import os.path
from pathlib import Path

import click

from resnet_spec.commands.options import json_option, print_json
from resnet_spec.language.template import render_template
from resnet_spec.library import bundled
from resnet_spec.library.load import find_source, load_document, loads


@click.command()
@click.argument("file")
@click.option("--like", default="resnet18", show_default=True, help="The spec to extend: a bundled network or a file.")
@json_option
def new(file: str, like: str, as_json: bool) -> None:
    """Write a new spec that extends another one, with the keys of that one as comments."""
    path = Path(file)
    base = find_source(like)
    extends = like.removesuffix(".yaml") if bundled.find(like) == base else os.path.relpath(like, path.parent)
    text = render_template(file, path.name.removesuffix(".yaml"), like, Path(extends).as_posix(), load_document(base))
    loads(text, name=file)  # raises if the base has problems, so that no broken file is written
    try:
        with path.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise click.UsageError(f"{file} exists already, and was not changed") from None
    if as_json:
        print_json({"file": file, "extends": Path(extends).as_posix()})
        return
    click.echo(f"wrote {file}; edit it, and check it with: resnet-spec check {file}")
