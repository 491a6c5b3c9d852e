"""``diff``: what differs from one network to another, or to a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from resnet_spec.commands.options import DIFFERS, json_option, loaded, set_option, show, show_json
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.views.network_diff import Change, StageDiff


@click.command()
@click.argument("one")
@click.argument("other")
@set_option
@json_option
def diff(one: str, other: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Say what differs between two networks, aligned by structure, and what that costs by stage.

    OTHER may also be a checkpoint: then it is names and shapes that are compared. The exit status is 1 if anything differs.
    """
    from resnet_spec.views.diff_tables import render_changes, render_stages, to_data

    first = loaded(one, settings)
    found, costed = _of_weights(first, other) if _holds_weights(other) else _of_networks(first, loaded(other, settings))
    if as_json:
        show_json(to_data(found, costed))
    elif found:
        show(render_changes(found))
        show(render_stages(costed, one, other))
    elif _holds_weights(other):
        click.echo(f"{other} holds the weights of {one}")
    else:
        click.echo(f"{one} and {other} are the same network")
    if found:
        sys.exit(DIFFERS)


def _of_networks(one: Network, other: Network) -> tuple[list[Change], list[StageDiff]]:
    from resnet_spec.views.network_diff import diff_networks, diff_stages

    return diff_networks(one, other), diff_stages(one, other)


def _of_weights(network: Network, path: str) -> tuple[list[Change], list[StageDiff]]:
    from resnet_spec.checkpoints.formats import registry  # here, since it imports NumPy
    from resnet_spec.checkpoints.transfer.matching import fit
    from resnet_spec.views.checkpoint_diff import diff_weight_stages, diff_weights

    held = fit(network, registry.read(path)).held()
    return diff_weights(network, held), diff_weight_stages(network, held)


def _holds_weights(path: str) -> bool:
    """Whether a path is that of a checkpoint, and not of a spec."""
    found = Path(path)
    if found.is_dir():
        return bundled.find(path) is None
    return found.exists() and found.suffix not in (".yaml", ".yml")
