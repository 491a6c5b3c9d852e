"""The ``convert`` command: convert a checkpoint to another framework's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from resnet_spec.commands.options import (
    all_option,
    json_option,
    load_network,
    parse_settings,
    print_json,
    progress_bar,
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
    from resnet_spec.downloads.select import find_provenance

    if until is not None and spec is None:
        raise click.UsageError("--until needs --spec")
    network = spec if until is None or spec is None else load_network(spec, settings, until=until)
    with progress_bar(f"{source} to {target}") as progress:
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
            provenance=find_provenance(source),
        )
    if as_json:
        print_json(tables.conversion_data(conversion))
    else:
        click.echo(tables.render_conversion(conversion))
