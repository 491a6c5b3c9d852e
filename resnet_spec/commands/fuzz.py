"""``fuzz``: whether backends compute the same of a thousand random networks."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from resnet_spec.commands.comparison import (
    examined,
    failures_option,
    jobs_option,
    level_option,
    names_option,
    ready,
    seconds_option,
    tries_option,
)
from resnet_spec.commands.options import DIFFERS, json_option, show, show_json


@click.command()
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="How many random networks.")
@click.option(
    "--seed", default=1, show_default=True, help="The first network's number; the same number gives the same network."
)
@names_option
@level_option
@jobs_option
@seconds_option
@tries_option
@failures_option
@json_option
def fuzz(
    count: int,
    seed: int,
    names: str | None,
    level: str,
    jobs: int,
    timeout: float,
    shrink: int,
    failures: Path,
    as_json: bool,
) -> None:
    """Compare backends on random networks, and print totals and the worst figure of each level."""
    from resnet_spec.parity import random_networks, tables
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.processes import HASTY
    from resnet_spec.parity.sweep import Sweep

    wanted = ready(names, against=False)
    cases = (Case(random_networks.network(number), level=level) for number in range(seed, seed + count))  # type: ignore[arg-type]
    done = examined(cases, count, Sweep(wanted, (), jobs, timeout, None, shrink, HASTY), failures)
    findings = [finding for one in done for finding in one.findings]
    off = [finding for finding in findings if finding.verdict in ("differs", "failed")]
    if as_json:
        show_json(tables.totals(len(done), wanted, findings) | {"findings": [tables.data(finding) for finding in off]})
    else:
        if off:
            show(tables.table(off))
        click.echo(tables.line(tables.totals(len(done), wanted, findings)))
    if off:
        sys.exit(DIFFERS)
