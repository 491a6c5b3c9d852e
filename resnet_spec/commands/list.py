"""The ``list`` command: list the bundled networks, filtered by name, registry and cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING

import click

from resnet_spec.backend import installed_backends
from resnet_spec.commands.options import json_option, print_fitting, print_json
from resnet_spec.library.index import Entry, read_index
from resnet_spec.views.table import format_shape

if TYPE_CHECKING:
    from rich.table import Table

OPTIONAL_COLUMNS = ("source", "input", "MACs")
"""The columns that are left out in a terminal that is too narrow, the first one first."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


@click.command("list")
@click.argument("pattern", default="")
@click.option("--registry", metavar="NAME", help="Only networks of a registry such as timm, or of a folder in one.")
@click.option("--max-parameters", metavar="N", help="Only networks with at most N parameters, such as 30M.")
@click.option("--min-parameters", metavar="N", help="Only networks with at least N parameters.")
@click.option("--max-macs", metavar="N", help="Only networks with at most N MACs, such as 4.1G.")
@json_option
def list_(
    pattern: str,
    registry: str | None,
    max_parameters: str | None,
    min_parameters: str | None,
    max_macs: str | None,
    as_json: bool,
) -> None:
    """List the bundled networks, or those with PATTERN in their names, with parameters, MACs and source."""
    entries = read_index()
    if registry is not None and not any(_is_in_registry(entry, registry) for entry in entries):
        registries = dict.fromkeys(entry.registry.partition("/")[0] for entry in entries if entry.registry)
        raise click.UsageError(f"no registry named {registry!r}; choose from {', '.join(registries)}")
    low, high = _parse_number(min_parameters, 0), _parse_number(max_parameters, inf)
    macs_limit = _parse_number(max_macs, inf)
    matches = [
        entry
        for entry in entries
        if (registry is None or _is_in_registry(entry, registry))
        and pattern.lower() in entry.name.lower()
        and low <= entry.parameters <= high
        and entry.macs <= macs_limit
    ]
    if as_json:
        keys = ("name", "registry", "source", "input", "parameters", "macs")
        print_json([{key: getattr(entry, key) for key in keys} for entry in matches])
        return
    print_fitting(_render_table(matches), OPTIONAL_COLUMNS)
    click.echo(f"{len(matches)} of {len(entries)} networks; installed backends: {', '.join(installed_backends())}")


def _parse_number(text: str | None, default: float) -> float:
    """Return a number that may be followed by K, M, G or B, such as 30M."""
    if text is None:
        return default
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGB]?)", text.upper())
    if match is None:
        raise click.UsageError(f"expected a number such as 30M or 4.1G, not {text!r}")
    return float(match[1]) * UNITS[match[2]]


def _is_in_registry(entry: Entry, registry: str) -> bool:
    return f"{entry.registry}/".startswith(f"{registry.rstrip('/')}/")


def _render_table(entries: Sequence[Entry]) -> Table:
    """Return a table with one network per line, grouped by registry, that rich can print."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    for heading in ("parameters", "MACs", "input"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("source")
    entries = sorted(entries, key=lambda entry: (entry.registry, entry.name))
    for _, group in groupby(entries, lambda entry: entry.registry):
        for entry in group:
            size = format_shape(entry.input)
            table.add_row(entry.name, f"{entry.parameters:,}", f"{entry.macs:,}", size, entry.source)
        table.add_section()
    return table
