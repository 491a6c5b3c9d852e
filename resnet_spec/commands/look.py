"""``show``: every layer of a network."""

from __future__ import annotations

import click

from resnet_spec.commands.options import input_option, json_option, loaded, set_option, show, show_json


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
