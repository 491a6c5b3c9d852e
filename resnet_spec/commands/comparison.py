"""What ``parity`` and ``fuzz`` share: options, the choice of backends, and a sweep with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_spec.backend import choose_backends, installed_backends
from resnet_spec.commands.options import EXIT_DIFFERENT, EXIT_UNKNOWN, print_fitting

if TYPE_CHECKING:
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.compare import Finding
    from resnet_spec.parity.sweep import CaseResult, Sweep

backend_option = click.option(
    "--backend", "names", metavar="NAME,...", help="Backends to compare. [default: all installed ones]"
)
level_option = click.option(
    "--level",
    type=click.Choice(["forward", "inference", "gradient", "training"]),
    default="training",
    show_default=True,
    help="What to compare: forward, the outputs; inference, also inference mode; gradient, also gradients; training, "
    "also five training steps.",
)
DTYPES = ("float64", "float32", "bfloat16", "float16")
"""The types in which backends can be compared; the 16-bit ones stand for mixed precision."""


def _parse_dtypes(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in DTYPES:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(DTYPES)}")
    return tuple(dict.fromkeys(names))


def dtype_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option ``--dtype``, whose help names a default."""
    return click.option(
        "--dtype",
        "dtypes",
        multiple=True,
        metavar="TYPE,...",
        callback=_parse_dtypes,
        help=f"float64, float32, or bfloat16 or float16 for mixed precision. [default: {default}]",
    )


jobs_option = click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Number of cases to examine at a time."
)
timeout_option = click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that a backend may take for one case.",
)
failures_option = click.option(
    "--failures",
    metavar="DIR",
    default="parity-failures",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the smallest networks that differ.",
)
shrink_option = click.option(
    "--shrink",
    default=100,
    show_default=True,
    type=click.IntRange(0),
    help="Number of smaller networks to try for a network that differs.",
)


def select_backends(names: str | None, has_records: bool) -> list[str]:
    """Return the backends of ``--backend``; without it, all that are installed, or none if there are saved records.

    Raises BackendError for a name that is not registered or not installed.
    """
    if names is not None:
        return choose_backends(names)
    return [] if has_records else installed_backends()


def run_cases(cases: Iterable[Case], count: int, sweep: Sweep, failures: Path) -> tuple[list[CaseResult], bool]:
    """Examine cases with a progress bar, and save the smallest networks that differ.

    Return the results, and whether Ctrl-C ended the run: then they are those until then.
    """
    from resnet_spec.parity.sweep import run_sweep, save_smallest

    results: list[CaseResult] = []
    interrupted = False
    running = run_sweep(cases, sweep)
    try:
        with _progress_bar(count) as advance:
            for result in running:
                results.append(result)
                advance(result.case.network.name)
                path = save_smallest(failures, result)
                if path is not None:
                    click.echo(
                        f"wrote the smallest network that differs, with a command to reproduce it: {path}", err=True
                    )
    except KeyboardInterrupt:
        interrupted = True
        click.echo(f"stopped after {len(results)} of {count} cases", err=True)
    finally:
        running.close()  # type: ignore[attr-defined]  # a generator
    return results, interrupted


def exit_status(findings: Iterable[Finding]) -> int:
    """Return the exit status of a comparison: 0, or EXIT_DIFFERENT, or EXIT_UNKNOWN if a network is ill-conditioned."""
    verdicts = {finding.verdict for finding in findings}
    if verdicts & {"differs", "failed"}:
        return EXIT_DIFFERENT
    return EXIT_UNKNOWN if "ill-conditioned" in verdicts else 0


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings as a table, and below it a sentence for each that has a reason."""
    from resnet_spec.parity import tables

    print_fitting(tables.to_table(findings), tables.OPTIONAL_COLUMNS)
    for sentence in tables.explain(findings):
        click.echo(sentence)


@contextmanager
def _progress_bar(count: int) -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal; return a function to call with a name when a case is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("parity", total=count)
        yield lambda name: progress.update(task, advance=1, description=name)
