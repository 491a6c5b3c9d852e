"""The ``diff`` command: show the differences between two networks, or between a network and a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    json_option,
    load_network,
    print_fitting,
    print_json,
    set_option,
    under_option,
)
from resnet_spec.diagnostics.problems import one_line
from resnet_spec.library import bundled
from resnet_spec.library.load import is_binary
from resnet_spec.network.network import Network
from resnet_spec.views.network_diff import Change, StageDiff


@click.command()
@click.argument("first")
@click.argument("second")
@set_option
@under_option
@json_option
def diff(first: str, second: str, settings: tuple[str, ...], under: str | None, as_json: bool) -> None:
    """Show the differences between two networks, aligned by structure, and the costs of their stages.

    SECOND may also be a checkpoint, whose names and shapes are compared with those of the network's weights. The exit
    status is 1 if anything differs.
    """
    from resnet_spec.views.diff_tables import OPTIONAL_HEADINGS, render_changes, render_stages, to_data

    if _is_checkpoint(first) and (Path(first).is_dir() or is_binary(first)):
        other = f"weights diff {first} {second}" if _is_checkpoint(second) else f"diff {second} {first}"
        raise ValueError(f"{first} is not a spec; if it is a checkpoint, compare it by: resnet-spec {other}")
    network = load_network(first, settings)
    is_checkpoint = _is_checkpoint(second)
    changes, stages = (
        _diff_checkpoint(network, second, under)
        if is_checkpoint
        else _diff_networks(network, load_network(second, settings))
    )
    if as_json:
        print_json(to_data(changes, stages))
    elif changes:
        print_fitting(render_changes(changes))
        print_fitting(render_stages(stages, first, second), OPTIONAL_HEADINGS)
    elif is_checkpoint:
        click.echo(one_line(f"{second} holds the weights of {first}"))
    else:
        click.echo(one_line(f"{first} and {second} are the same network"))
    if changes:
        sys.exit(EXIT_DIFFERENT)


def _diff_networks(first: Network, second: Network) -> tuple[list[Change], list[StageDiff]]:
    from resnet_spec.views.network_diff import diff_networks, diff_stages

    return diff_networks(first, second), diff_stages(first, second)


def _diff_checkpoint(network: Network, path: str, under: str | None) -> tuple[list[Change], list[StageDiff]]:
    from resnet_spec.checkpoints.formats import registry  # here, since it imports NumPy
    from resnet_spec.checkpoints.transfer.matching import interpret_checkpoint
    from resnet_spec.views.checkpoint_diff import diff_weight_stages, diff_weights

    interpretation = interpret_checkpoint(network, registry.read(path), under)
    interpretation.raise_for_doubts(only_places=True)
    shapes = interpretation.canonical_shapes()
    return diff_weights(network, shapes), diff_weight_stages(network, shapes)


def _is_checkpoint(name: str) -> bool:
    """Whether an argument is the path of a checkpoint, and not that of a spec or the name of a bundled network."""
    path = Path(name)
    if path.is_dir():
        return bundled.find(name) is None
    return path.exists() and path.suffix not in (".yaml", ".yml")
