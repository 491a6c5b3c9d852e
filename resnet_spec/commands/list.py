"""``list``: the bundled networks by registry, those that one looks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from math import inf

import click

from resnet_spec.backend import registered_backends
from resnet_spec.commands.options import json_option, show, show_json
from resnet_spec.library.index import Entry, read_index

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


@click.command("list")
@click.argument("pattern", default="")
@click.option("--registry", metavar="NAME", help="Only those of a registry, as in timm, or in a folder of one.")
@click.option("--max-parameters", metavar="N", help="Only those with at most so many, as in 30M.")
@click.option("--min-parameters", metavar="N", help="Only those with at least so many.")
@click.option("--max-macs", metavar="N", help="Only those that cost at most so many, as in 4.1G.")
@json_option
def list_(
    pattern: str,
    registry: str | None,
    max_parameters: str | None,
    min_parameters: str | None,
    max_macs: str | None,
    as_json: bool,
) -> None:
    """List the bundled networks, or those with PATTERN in their names: parameters, MACs, source."""
    known = read_index()
    if registry is not None and not any(_within(entry, registry) for entry in known):
        registries = dict.fromkeys(entry.registry.partition("/")[0] for entry in known if entry.registry)
        raise click.UsageError(f"no registry named {registry!r}; there are {', '.join(registries)}")
    least, most, dearest = _amount(min_parameters, 0), _amount(max_parameters, inf), _amount(max_macs, inf)
    found = [
        entry
        for entry in known
        if (registry is None or _within(entry, registry))
        and pattern.lower() in entry.name.lower()
        and least <= entry.parameters <= most
        and entry.macs <= dearest
    ]
    if as_json:
        facts = ("name", "registry", "source", "input", "parameters", "macs")
        show_json([{name: getattr(entry, name) for name in facts} for entry in found])
        return
    show(_table(found))
    click.echo(f"{len(found)} of {len(known)} networks; backends: {', '.join(registered_backends())}")


def _amount(text: str | None, without: float) -> float:
    """A number with K, M, G or B behind it, as in 30M."""
    if text is None:
        return without
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGB]?)", text.upper())
    if found is None:
        raise click.UsageError(f"expected a number, as in 30M or 4.1G, not {text!r}")
    return float(found[1]) * UNITS[found[2]]


def _within(entry: Entry, registry: str) -> bool:
    return f"{entry.registry}/".startswith(f"{registry.rstrip('/')}/")


def _table(found: Sequence[Entry]) -> object:
    """One network a line, those of a registry together."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    for heading in ("parameters", "MACs", "input"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("source")
    for _, group in groupby(
        sorted(found, key=lambda entry: (entry.registry, entry.name)), lambda entry: entry.registry
    ):
        for entry in group:
            size = " x ".join(map(str, entry.input))
            table.add_row(entry.name, f"{entry.parameters:,}", f"{entry.macs:,}", size, entry.source)
        table.add_section()
    return table
