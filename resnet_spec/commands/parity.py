"""``parity``: whether backends compute the same network."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from resnet_spec.commands.options import DIFFERS, loaded, set_option, settings_of, show
from resnet_spec.library import bundled
from resnet_spec.network.network import Network


@click.command()
@click.argument("specs", nargs=-1, required=True)
@names_option
@level_option
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float64", "float32"]), help="[default: both]")
@click.option("--seed", default=0, show_default=True, help="The first seed of weights, images and labels.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="How many seeds.")
@click.option(
    "--size", metavar="HxW", help="The images' size. [default: 72x56, or the spec's own where that is smaller]"
)
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page.")
@click.option("--junit", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML.")
@click.option(
    "--json", "as_json", is_flag=False, flag_value="-", metavar="[FILE]", help="Print JSON, or write it to a file."
)
@click.option(
    "--save", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Keep what each backend computed."
)
@click.option(
    "--against",
    multiple=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Compare with what --save kept, on another machine perhaps.",
)
@click.option("--narrow", is_flag=True, help="Compare copies with fewer channels, of the same topology.")
@jobs_option
@seconds_option
@tries_option
@failures_option
@set_option
def parity(
    specs: tuple[str, ...],
    names: str | None,
    level: str,
    dtypes: tuple[str, ...],
    seed: int,
    seeds: int,
    size: str | None,
    narrow: bool,
    save: Path | None,
    against: tuple[Path, ...],
    jobs: int,
    timeout: float,
    shrink: int,
    failures: Path,
    settings: tuple[str, ...],
    **outputs: Any,
) -> None:
    """Compare what backends compute with each other and with the reference in NumPy: every part's output, gradients, training.

    A SPEC with * in it stands for the bundled networks that it fits, as in 'timm/resnet*'.
    """
    from resnet_spec.parity import saved_records
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.sweep import Sweep
    from resnet_spec.transforms.width_reduction import reduce_width

    networks = [_sized(spec, settings, size) for given in specs for spec in _meant(given)]
    if narrow:
        networks = list(map(reduce_width, networks))
    cases = [
        Case(network, dtype, level, seed + number)  # type: ignore[arg-type]  # click has checked both
        for network in networks
        for dtype in dtypes or ("float64", "float32")
        for number in range(seeds)
    ]
    others = [saved_records.Stored(name, folder) for folder in against for name in saved_records.backends(folder)]
    wanted = ready(names, against=bool(against))
    keep = (lambda name, case, record: saved_records.save(save, name, case, record)) if save else None
    done = examined(cases, len(cases), Sweep(wanted, others, jobs, timeout, keep, shrink), failures)
    findings = [finding for one in done for finding in one.findings]
    _present(findings, **outputs)
    if any(finding.verdict in ("differs", "failed") for finding in findings):
        sys.exit(DIFFERS)
    if not save and not any(finding.count for finding in findings):
        click.echo("nothing was compared", err=True)
        sys.exit(DIFFERS)


def _present(findings: Sequence[Any], as_json: str | None, report: Path | None, junit: Path | None) -> None:
    from resnet_spec.parity import junit as as_junit
    from resnet_spec.parity import report as as_report
    from resnet_spec.parity import tables

    data = json.dumps([tables.data(finding) for finding in findings], indent=2)
    if as_json == "-":
        click.echo(data)
    else:
        show(tables.table(findings))
        if as_json is not None:
            Path(as_json).write_text(data + "\n", encoding="utf-8")
    if report is not None:
        report.write_text(as_report.page(findings), encoding="utf-8")
    if junit is not None:
        junit.write_text(as_junit.xml(findings), encoding="utf-8")


def _meant(spec: str) -> list[str]:
    """The specs that an argument stands for."""
    if "*" not in spec:
        return [spec]
    found = fnmatch.filter(bundled.names(), spec)
    if not found:
        raise click.UsageError(f"no bundled network fits {spec!r}; resnet-spec list shows them")
    return found


def _sized(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    """A network at the size asked for, or else at a small one."""
    from resnet_spec.parity.comparison_size import small

    if size is None:
        return small(spec, **settings_of(settings))
    return loaded(spec, settings, extent=size)
