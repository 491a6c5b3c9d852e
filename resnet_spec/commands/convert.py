"""The ``convert`` command: convert a checkpoint to another framework's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from resnet_spec.commands.options import (
    all_option,
    json_option,
    load_network,
    parse_settings,
    print_json,
    set_option,
    spec_option,
    under_option,
    until_option,
)

if TYPE_CHECKING:
    from resnet_spec.checkpoints.transfer.convert import Conversion


@click.command()
@click.argument("source")
@click.argument("target")
@spec_option
@set_option
@click.option(
    "--to", "kind", metavar="KIND", help="safetensors, torch, paddle, npz or orbax. [default: by TARGET's suffix]"
)
@click.option("--names", metavar="DIALECT", help="The names to write, such as paddleclas. [default: the spec's own]")
@click.option("--dtype", metavar="TYPE", help="float64, float32, float16 or bfloat16. [default: unchanged]")
@under_option
@until_option
@click.option("--layout", metavar="FRAMEWORK", help="SOURCE's order of axes, such as paddle. [default: what it tells]")
@all_option
@json_option
def convert(
    source: str,
    target: str,
    spec: str | None,
    settings: tuple[str, ...],
    kind: str | None,
    names: str | None,
    dtype: str | None,
    under: str | None,
    until: str | None,
    layout: str | None,
    as_json: bool,
) -> None:
    """Convert a checkpoint to another framework's format.

    TARGET is a .safetensors, .pth, .pdparams or .npz file, or an Orbax folder, whose name has no suffix.
    """
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.convert import convert

    if until is not None and spec is None:
        raise click.UsageError("--until needs --spec")
    network = spec if until is None or spec is None else load_network(spec, settings, until=until)
    with _progress_bar(f"{source} to {target}") as progress:
        conversion: Conversion = convert(
            source,
            target,
            network,
            kind=kind,
            names=names,
            dtype=dtype,
            under=under,
            layout=layout,
            progress=progress,
            settings=parse_settings(settings) if network is spec else {},
        )
    if as_json:
        print_json(tables.conversion_data(conversion))
    else:
        click.echo(tables.render_conversion(conversion))


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar of bytes and yield a function that updates it; yield None if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
