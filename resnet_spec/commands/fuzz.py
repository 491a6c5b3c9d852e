"""``fuzz``: compare backends on random networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_spec.commands.comparison import (
    backend_option,
    dtype_option,
    exit_status,
    failures_option,
    jobs_option,
    level_option,
    print_findings,
    run_cases,
    select_backends,
    shrink_option,
    timeout_option,
)
from resnet_spec.commands.options import EXIT_INTERRUPTED, json_option, print_json

if TYPE_CHECKING:
    from resnet_spec.network.network import Network
    from resnet_spec.parity.case import Case, Dtype, Level


@click.command()
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Number of random networks.")
@click.option(
    "--seed", default=1, show_default=True, help="Number of the first network. A number always gives the same network."
)
@backend_option
@dtype_option("float64 at every level, and float32 up to inference mode")
@level_option
@jobs_option
@timeout_option
@shrink_option
@failures_option
@json_option
def fuzz(
    count: int,
    seed: int,
    names: str | None,
    dtypes: tuple[str, ...],
    level: str,
    jobs: int,
    timeout: float,
    shrink: int,
    failures: Path,
    as_json: bool,
) -> None:
    """Compare backends on random networks; print how many differ, and the worst error of each group of arrays.

    Networks are compared in float64 and, unless the level is forward, in float32 too, in which inference mode runs
    other code. With --dtype, they are compared in those types, at the level.
    """
    from resnet_spec.parity import random_networks, tables
    from resnet_spec.parity.processes import FAST_COMPILE_ENV
    from resnet_spec.parity.sweep import Sweep

    backends = select_backends(names, has_records=False)
    networks = map(random_networks.generate_network, range(seed, seed + count))
    cases = (case for network in networks for case in _cases(network, level, dtypes))  # type: ignore[arg-type]  # checked
    per_network = len(dtypes) or (1 if level == "forward" else 2)
    sweep = Sweep(backends, jobs=jobs, timeout=timeout, shrink=shrink, environment=FAST_COMPILE_ENV)
    results, interrupted = run_cases(cases, count * per_network, sweep, failures)
    findings = [finding for result in results for finding in result.findings]
    notable = [finding for finding in findings if finding.verdict in ("differs", "failed", "ill-conditioned")]
    examined = {result.case.network.name for result in results}
    summary = tables.summarize(len(examined), backends, findings)
    if as_json:
        print_json(summary | {"findings": [tables.to_json(finding) for finding in notable]})
    else:
        if notable:
            print_findings(notable)
        click.echo(tables.format_summary(summary))
    if interrupted:
        sys.exit(EXIT_INTERRUPTED)
    if status := exit_status(findings):
        sys.exit(status)


def _cases(network: Network, level: Level, dtypes: Sequence[Dtype]) -> list[Case]:
    """Return a network's cases in some types, or by default in two.

    These are float64, and float32 up to inference mode, which has fused operators there.
    """
    from resnet_spec.parity.case import Case

    if dtypes:
        return [Case(network, dtype, level) for dtype in dtypes]
    single = [] if level == "forward" else [Case(network, "float32", "inference")]
    return [Case(network, level=level), *single]
