"""``list`` and ``show``: the bundled networks, and every layer of one."""

from __future__ import annotations

import click

from resnet_spec import bundled
from resnet_spec.backend import backends
from resnet_spec.commands.options import input_option, json_option, loaded, set_option, show, show_json
from resnet_spec.load import load


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the bundled networks: parameters, MACs, source."""
    from resnet_spec import table

    found = [(name, load(name)) for name in bundled.names()]
    if as_json:
        show_json([{**table.summary(network), "name": name} for name, network in found])
    else:
        show(table.networks(found))
        click.echo(f"backends: {', '.join(backends())}")


@click.command("show")
@click.argument("spec")
@set_option
@input_option
@json_option
def show_(spec: str, settings: tuple[str, ...], size: str | None, as_json: bool) -> None:
    """Show every layer of a network: path, operation, shapes, parameters, MACs."""
    from resnet_spec import table

    network = loaded(spec, settings, size)
    if as_json:
        show_json({**table.summary(network), "layers": table.rows(network)})
    else:
        show(table.layers(network))
