"""What ``parity`` and ``fuzz`` share: options, and cases examined before someone who waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_spec.backend import installed_backends, require_backend

if TYPE_CHECKING:
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.sweep import Examined, Sweep

names_option = click.option(
    "--backend", "names", metavar="NAME,...", help="Backends to compare. [default: those installed]"
)
level_option = click.option(
    "--level",
    type=click.Choice(["forward", "gradient", "training"]),
    default="training",
    show_default=True,
    help="How far to go: outputs; gradients too; five steps of training too.",
)
jobs_option = click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), help="How many cases at a time."
)
seconds_option = click.option(
    "--timeout", default=600.0, show_default=True, help="Seconds that a backend may take over a case."
)
failures_option = click.option(
    "--failures",
    metavar="DIR",
    default="parity-failures",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the smallest network that differs is written.",
)
tries_option = click.option(
    "--shrink", default=100, show_default=True, type=click.IntRange(0), help="Smaller networks to try."
)


def ready(names: str | None, against: bool) -> list[str]:
    """The backends to compare: those asked for, which must be here; else those that are, or none beside records."""
    if names is not None:
        wanted = [name for name in names.split(",") if name]
        for name in wanted:
            require_backend(name)
        return wanted
    if against:
        return []
    return installed_backends()


def examined(cases: Iterable[Case], count: int, sweep: Sweep, failures: Path) -> list[Examined]:
    """Examine cases with a bar of progress where someone looks; an interrupt ends it with what was done."""
    from resnet_spec.parity.sweep import kept, swept

    done: list[Examined] = []
    running = swept(cases, sweep)
    try:
        with _bar(count) as advance:
            for one in running:
                done.append(one)
                advance(one.case.network.name)
                path = kept(failures, one)
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
