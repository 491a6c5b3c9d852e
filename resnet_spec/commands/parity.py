"""``parity``: whether backends compute the same network."""

from __future__ import annotations

import sys

import click

from resnet_spec.backend import load_backend
from resnet_spec.commands.options import (
    DIFFERS,
    installed,
    json_option,
    loaded,
    numbers,
    progress,
    set_option,
    settings_of,
    show,
    show_json,
)
from resnet_spec.load import load
from resnet_spec.network import Network
from resnet_spec.source import SpecError


@click.command()
@click.argument("specs", nargs=-1, required=True)
@click.option("--backend", "names", metavar="NAME,...", help="Backends to compare. [default: those installed]")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float64", "float32"]), help="[default: both]")
@click.option(
    "--size", metavar="HxW", help="The images' size. [default: 72x56, or the spec's own where that is smaller]"
)
@set_option
@json_option
def parity(
    specs: tuple[str, ...],
    names: str | None,
    dtypes: tuple[str, ...],
    size: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare what backends compute, at every named node, with the reference in NumPy."""
    from resnet_spec import parity

    networks = [_comparable(spec, settings, size) for spec in specs]
    wanted = names.split(",") if names else installed()
    for name in wanted:
        load_backend(name)
    results = []
    for network in networks:
        results += parity.compare(network, wanted, dtypes or ("float64", "float32"), progress())
    if as_json:
        show_json([parity.as_data(result) for result in results])
    else:
        show(parity.as_table(results))
    if not all(result.same for result in results):
        sys.exit(DIFFERS)


def _comparable(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    """A network at the size to compare at: as asked, else small, else its own if it can't be that small."""
    from resnet_spec.parity import SIZE

    network = loaded(spec, settings, None)
    channels, *own = network.input
    height, width = numbers(size, "HxW", 2) if size else map(min, SIZE, own)
    try:
        return load(spec, input=(channels, height, width), **settings_of(settings))
    except SpecError:
        if size:
            raise
        return network
