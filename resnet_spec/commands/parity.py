"""``parity``: check that backends compute the same network."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from resnet_spec.commands.comparison import (
    DTYPES,
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
from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    EXIT_INTERRUPTED,
    device_option,
    load_network,
    parse_settings,
    set_option,
)
from resnet_spec.library import bundled
from resnet_spec.network.network import Network


@click.command()
@click.argument("specs", nargs=-1, required=True)
@backend_option
@level_option
@dtype_option("float64 and float32, or those of the records that --against names")
@device_option
@click.option("--seed", default=0, show_default=True, help="First seed for weights, images and labels.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Number of seeds.")
@click.option(
    "--size", metavar="HxW", help="Size of the images. [default: 72x56, or the spec's own size if that is smaller]"
)
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report.")
@click.option("--junit", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML.")
@click.option(
    "--json", "as_json", is_flag=False, flag_value="-", metavar="[FILE]", help="Print JSON, or write it to a file."
)
@click.option(
    "--save", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Save what each backend computed."
)
@click.option(
    "--against",
    multiple=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Compare with records from --save, for example from another machine.",
)
@click.option(
    "--narrow", is_flag=True, help="Compare copies of the networks with fewer channels and the same topology."
)
@jobs_option
@timeout_option
@shrink_option
@failures_option
@set_option
def parity(
    specs: tuple[str, ...],
    names: str | None,
    level: str,
    dtypes: tuple[str, ...],
    device: str | None,
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
    """Compare what backends compute: the output of every part, gradients and training steps.

    The reference is the NumPy backend; what it does not compute is compared between the other backends. With --device,
    backends that have devices compute there, in full precision, and the others on the CPU. A SPEC with a *
    stands for all bundled networks that match it, as in 'timm/resnet*'.
    """
    from resnet_spec.parity import saved_records
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.sweep import Sweep
    from resnet_spec.transforms.width_reduction import reduce_width

    networks = [_load(spec, settings, size) for pattern in specs for spec in _expand(pattern)]
    if narrow:
        networks = list(map(reduce_width, networks))
    others = saved_records.find_records(against)
    kept = {dtype for records in others for dtype in records.dtypes()}
    cases = [
        Case(network, dtype, level, seed + number, device=device or "")  # type: ignore[arg-type]  # click has checked both
        for network in networks
        for dtype in dtypes or ([dtype for dtype in DTYPES if dtype in kept] if kept else DTYPES[:2])
        for number in range(seeds)
    ]
    backends = select_backends(names, has_records=bool(against))
    on_record = (lambda name, case, record: saved_records.save_record(save, name, case, record)) if save else None
    sweep = Sweep(backends, others, jobs, timeout, on_record, shrink)
    results, interrupted = run_cases(cases, len(cases), sweep, failures)
    findings = [finding for result in results for finding in result.findings]
    _write_outputs(findings, **outputs)
    if interrupted:
        sys.exit(EXIT_INTERRUPTED)
    if status := exit_status(findings):
        sys.exit(status)
    if not save and not any(finding.count for finding in findings):
        click.echo("nothing was compared", err=True)
        sys.exit(EXIT_DIFFERENT)


def _write_outputs(findings: Sequence[Any], as_json: str | None, report: Path | None, junit: Path | None) -> None:
    from resnet_spec.checkpoints.formats.atomic import write_file
    from resnet_spec.parity import tables
    from resnet_spec.parity.junit import to_junit
    from resnet_spec.parity.report import to_html

    data = json.dumps([tables.to_json(finding) for finding in findings], indent=2)
    if as_json == "-":
        click.echo(data)
    else:
        print_findings(findings)
        if as_json is not None:
            write_file(as_json, data + "\n")
    if report is not None:
        write_file(report, to_html(findings))
    if junit is not None:
        write_file(junit, to_junit(findings))


def _expand(spec: str) -> list[str]:
    """Return the specs that an argument stands for: itself, or the bundled networks that a pattern matches."""
    if "*" not in spec:
        return [spec]
    names = fnmatch.filter(bundled.names(), spec)
    if not names:
        raise click.UsageError(f"no bundled network matches {spec!r}; resnet-spec list shows them all")
    return names


def _load(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    """Load a network for images of ``--size``, by default of a small size."""
    from resnet_spec.parity.case import load_for_comparison

    if size is None:
        return load_for_comparison(spec, **parse_settings(settings))
    return load_network(spec, settings, extent=size)
