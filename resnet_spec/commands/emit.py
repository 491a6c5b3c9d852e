"""The ``emit`` command: write a network as a Python module that needs its framework alone."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from resnet_spec.api import emit_loaded
from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.commands.options import (
    input_option,
    json_option,
    parse_settings,
    parse_sizes,
    print_json,
    set_option,
    until_option,
)
from resnet_spec.emitting.module import Options
from resnet_spec.library.load import find_source, load_source, read_source


@click.command()
@click.argument("spec")
@click.option("--backend", required=True, metavar="NAME", help="The framework: torch, paddle or flax.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write. [default: print it]",
)
@click.option("--native", is_flag=True, help="Use the framework's own layers, and say what then differs.")
@click.option("--comments", is_flag=True, help="Say the shapes of the maps after each stage.")
@click.option("--with-main", is_flag=True, help="Add a part that prints a summary and runs the network.")
@until_option
@input_option
@set_option
@json_option
def emit(
    spec: str,
    backend: str,
    output: Path | None,
    native: bool,
    comments: bool,
    with_main: bool,
    until: str | None,
    size: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a network as a Python module for PyTorch, Paddle or Flax, which needs nothing else.

    The framework need not be installed. Weights have the names of the spec, so checkpoints load.
    """
    source = read_source(sys.stdin.buffer, "<stdin>") if spec == "-" else find_source(spec)
    values = parse_settings(settings)
    image = parse_sizes(size, "CxHxW", 3) if size else None
    load_with = partial(load_source, source, input=image, outputs=until.split(",") if until else None)
    network = load_with(**values)
    text = emit_loaded(network, load_with, values, backend, Options(native, comments, with_main))
    if output is not None:
        if not output.parent.is_dir():
            raise FileNotFoundError(f"no folder named {str(output.parent)!r}")
        write_file(output, text)
    if as_json:
        file = None if output is None else str(output)
        print_json({"network": network.name, "backend": backend, "file": file, "lines": text.count("\n")})
    elif output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{output}: {text.count(chr(10))} lines")
