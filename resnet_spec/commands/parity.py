"""``parity`` and ``fuzz``: whether backends compute the same network, one that is given or a thousand random ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_spec.backend import installed, require
from resnet_spec.commands.options import DIFFERS, loaded, numbers, set_option, settings_of, show
from resnet_spec.load import load
from resnet_spec.network import Network
from resnet_spec.source import SpecError

if TYPE_CHECKING:
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.sweep import Examined, Sweep

_names = click.option("--backend", "names", metavar="NAME,...", help="Backends to compare. [default: those installed]")
_level = click.option(
    "--level",
    type=click.Choice(["forward", "gradient", "training"]),
    default="training",
    show_default=True,
    help="How far to go: outputs; gradients too; five steps of training too.",
)
_jobs = click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="How many cases at a time.")
_seconds = click.option(
    "--timeout", default=600.0, show_default=True, help="Seconds that a backend may take over a case."
)
_failures = click.option(
    "--failures",
    metavar="DIR",
    default="parity-failures",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the smallest network that differs is written.",
)
_tries = click.option(
    "--shrink", default=100, show_default=True, type=click.IntRange(0), help="Smaller networks to try."
)


@click.command()
@click.argument("specs", nargs=-1, required=True)
@_names
@_level
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
@_jobs
@_seconds
@_tries
@_failures
@set_option
def parity(
    specs: tuple[str, ...],
    names: str | None,
    level: str,
    dtypes: tuple[str, ...],
    seed: int,
    seeds: int,
    size: str | None,
    save: Path | None,
    against: tuple[Path, ...],
    jobs: int,
    timeout: float,
    shrink: int,
    failures: Path,
    settings: tuple[str, ...],
    **outputs: Any,
) -> None:
    """Compare what backends compute with each other and with the reference in NumPy: every part's output, gradients, training."""
    from resnet_spec.parity import stored
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.sweep import Sweep

    networks = [_comparable(spec, settings, size) for spec in specs]
    cases = [
        Case(network, dtype, level, seed + number)  # type: ignore[arg-type]  # click has checked both
        for network in networks
        for dtype in dtypes or ("float64", "float32")
        for number in range(seeds)
    ]
    others = [stored.Stored(name, folder) for folder in against for name in stored.backends(folder)]
    wanted = _ready(names, against=bool(against))
    keep = (lambda name, case, record: stored.save(save, name, case, record)) if save else None
    done = _swept(cases, len(cases), Sweep(wanted, others, jobs, timeout, keep, shrink), failures)
    _presented([finding for examined in done for finding in examined.findings], **outputs)


@click.command()
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="How many random networks.")
@click.option(
    "--seed", default=1, show_default=True, help="The first network's number; the same number gives the same network."
)
@_names
@_level
@_jobs
@_seconds
@_tries
@_failures
def fuzz(
    count: int,
    seed: int,
    names: str | None,
    level: str,
    jobs: int,
    timeout: float,
    shrink: int,
    failures: Path,
) -> None:
    """Compare backends on random networks, and print totals and the worst figure of each level."""
    from resnet_spec.parity import generate, present
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.pool import HASTY
    from resnet_spec.parity.sweep import Sweep

    wanted = _ready(names, against=False)
    cases = (Case(generate.network(number), level=level) for number in range(seed, seed + count))  # type: ignore[arg-type]
    done = _swept(cases, count, Sweep(wanted, (), jobs, timeout, None, shrink, HASTY), failures)
    findings = [finding for examined in done for finding in examined.findings]
    off = [finding for finding in findings if finding.verdict in ("differs", "failed")]
    if off:
        show(present.table(off))
    click.echo(present.totals(len(done), wanted, findings))
    if off:
        sys.exit(DIFFERS)


def _swept(cases: Iterable[Case], count: int, sweep: Sweep, failures: Path) -> list[Examined]:
    """Examine cases with a bar of progress where someone looks; an interrupt ends it with what was done."""
    from resnet_spec.parity.sweep import kept, swept

    done: list[Examined] = []
    running = swept(cases, sweep)
    try:
        with _bar(count) as advance:
            for examined in running:
                done.append(examined)
                advance(examined.case.network.name)
                path = kept(failures, examined)
                if path is not None:
                    click.echo(f"the smallest network that differs is in {path}, which says how to see it", err=True)
    except KeyboardInterrupt:
        click.echo(f"stopped after {len(done)} of {count} cases", err=True)
    finally:
        running.close()  # type: ignore[attr-defined]  # a generator
    return done


class _bar:  # noqa: N801  # used as a function is
    """A context that gives a function to call as each case is done."""

    def __init__(self, count: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task("parity", total=count)

    def __enter__(self) -> Callable[[str], None]:
        self.progress.start()
        return lambda name: self.progress.update(self.task, advance=1, description=name)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def _presented(findings: Sequence[Any], as_json: str | None, report: Path | None, junit: Path | None) -> None:
    from resnet_spec.parity import junit as as_junit
    from resnet_spec.parity import present
    from resnet_spec.parity import report as as_report

    data = json.dumps([present.data(finding) for finding in findings], indent=2)
    if as_json == "-":
        click.echo(data)
    else:
        show(present.table(findings))
        if as_json is not None:
            Path(as_json).write_text(data + "\n", encoding="utf-8")
    if report is not None:
        report.write_text(as_report.page(findings), encoding="utf-8")
    if junit is not None:
        junit.write_text(as_junit.xml(findings), encoding="utf-8")
    if any(finding.verdict in ("differs", "failed") for finding in findings) or not findings:
        sys.exit(DIFFERS)


def _ready(names: str | None, against: bool) -> list[str]:
    """The backends to compare: those asked for, which must be here; else those that are, or none beside records."""
    if names is not None:
        wanted = [name for name in names.split(",") if name]
        for name in wanted:
            require(name)
        return wanted
    if against:
        return []
    return installed()


def _comparable(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    """A network at the size to compare at: as asked, else small, else its own if it can't be that small."""
    from resnet_spec.parity.case import SIZE

    network = loaded(spec, settings)
    channels, *own = network.input
    height, width = numbers(size, "HxW", 2) if size else map(min, SIZE, own)
    try:
        return load(spec, input=(channels, height, width), **settings_of(settings))
    except SpecError:
        if size:
            raise
        return network
