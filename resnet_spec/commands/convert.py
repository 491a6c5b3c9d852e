"""``convert``: a checkpoint to another framework's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from resnet_spec.commands.options import json_option, set_option, settings_of, show_json, spec_option

if TYPE_CHECKING:
    from resnet_spec.checkpoints.transfer.convert import Conversion


@click.command()
@click.argument("source")
@click.argument("target")
@spec_option
@set_option
@click.option("--to", "kind", metavar="KIND", help="safetensors, torch, paddle, npz or orbax. [default: by the ending]")
@click.option("--names", metavar="DIALECT", help="Whose names to write, as in paddleclas. [default: the spec's own]")
@click.option("--dtype", metavar="TYPE", help="float64, float32, float16 or bfloat16. [default: as it is]")
@click.option("--under", metavar="NAME", help="Which of the source's mappings to read, as in state_dict_ema.")
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
    as_json: bool,
) -> None:
    """Convert a checkpoint to another framework's file: .safetensors, .pth, .pdparams, .npz, or a folder for Orbax."""
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.convert import convert

    with _bytes(f"{source} to {target}") as progress:
        done: Conversion = convert(
            source,
            target,
            spec,
            kind=kind,
            names=names,
            dtype=dtype,
            under=under,
            progress=progress,
            settings=settings_of(settings),
        )
    if as_json:
        show_json(tables.conversion_data(done))
    else:
        click.echo(tables.conversion(done))


@contextmanager
def _bytes(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of bytes, where someone looks."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
