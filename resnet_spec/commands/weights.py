"""``convert``, ``identify`` and ``weights diff``: checkpoints between frameworks, and what they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from resnet_spec.commands.options import DIFFERS, json_option, set_option, settings_of, show, show_json

if TYPE_CHECKING:
    from resnet_spec.transfer.convert import Conversion

spec_option = click.option("--spec", metavar="SPEC", help="The network. [default: what the file itself names]")


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
    from resnet_spec.transfer import present
    from resnet_spec.transfer.convert import convert

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
        show_json(present.conversion_data(done))
    else:
        click.echo(present.conversion(done))


@click.command()
@click.argument("file")
@json_option
def identify(file: str, as_json: bool) -> None:
    """Say which bundled networks a checkpoint fits, exactly or but for the head, and which it comes near."""
    from resnet_spec.transfer import present
    from resnet_spec.transfer.identify import identify

    with _names() as progress:
        checkpoint, matches = identify(file, progress)
    if as_json:
        show_json({"format": checkpoint.format, "metadata": checkpoint.metadata, "matches": list(map(asdict, matches))})
    else:
        for line in present.described(checkpoint, matches):
            click.echo(line)
        show(present.matches(matches))
    if not any(match.how != "near" for match in matches):
        sys.exit(DIFFERS)


@click.group()
def weights() -> None:
    """Look at checkpoints."""


@weights.command("diff")
@click.argument("one")
@click.argument("other")
@spec_option
@set_option
@json_option
def diff(one: str, other: str, spec: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Compare two checkpoints array by array, whatever their formats: how far apart, and where."""
    from resnet_spec.transfer import present
    from resnet_spec.transfer.difference import differences

    with _names() as progress:
        found = differences(one, other, spec, settings_of(settings), progress)
    if as_json:
        show_json([present.difference_data(each) for each in found])
    else:
        show(present.differences(found))
    if not all(each.identical for each in found):
        sys.exit(DIFFERS)


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


@contextmanager
def _names() -> Iterator[Callable[[str], None] | None]:
    """A line that says what is looked at, where someone looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("") as status:
        yield status.update
