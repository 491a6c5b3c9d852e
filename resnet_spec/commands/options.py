"""Options, exit statuses and output functions that several commands share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from resnet_spec.diagnostics.problems import Problem, one_line, render_problem
from resnet_spec.library.load import Setting, find_source, load_source, read_source
from resnet_spec.network.network import Network

if TYPE_CHECKING:
    from rich.table import Table

EXIT_ERROR = 2
"""Exit status of a command that failed, because of its input or because a spec has problems."""
EXIT_DIFFERENT = 1
"""Exit status of a command that compares, if it found a difference."""
EXIT_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as of every program that a shell runs."""
EXIT_UNKNOWN = 3
"""Exit status of a comparison that found no difference, but could not compare everything: it proves nothing."""
NON_TTY_WIDTH = 300
"""Columns of the output if it is not a terminal."""

set_option = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set an argument that the spec takes, or an option."
)
input_option = click.option(
    "--input", "size", metavar="CxHxW", help="Size of the image, as in 3x224x224. [default: the spec's]"
)
extent_option = click.option(
    "--size", "extent", metavar="HxW", help="Height and width of the image, as in 224x224. [default: the spec's]"
)
depth_option = click.option("--depth", default="all", metavar="1|2|...|all", help="Levels to show. [default: all]")
spec_option = click.option("--spec", metavar="SPEC", help="The network. [default: the one that the file names]")
under_option = click.option(
    "--under", metavar="PREFIX", help="Where the weights stand in the file, such as state_dict_ema. [default: searched]"
)
device_option = click.option(
    "--device", metavar="NAME", help="Where to compute, such as cpu, cuda or cuda:1. [default: the framework's choice]"
)
until_option = click.option(
    "--until", metavar="PATH,...", help="End the network at this part, such as layer4, for a file without what follows."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


_shows_all = False


def _show_all(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    global _shows_all
    _shows_all = value


all_option = click.option(
    "--all", is_flag=True, expose_value=False, callback=_show_all, help="Print every array that does not fit."
)


def load_network(
    spec: str,
    settings: tuple[str, ...],
    size: str | None = None,
    extent: str | None = None,
    until: str | None = None,
) -> Network:
    """Load a network as the options of a command say, for an image of ``size`` CxHxW or of ``extent`` HxW.

    It ends at the parts ``until``, which are joined by commas.

    The spec is a name or a path, or - for standard input, from where what it extends is found in the working directory.
    """
    if size and extent:
        raise click.UsageError("--input includes height and width; omit --size")
    source = read_source(sys.stdin.buffer, "<stdin>") if spec == "-" else find_source(spec)
    arguments = {**parse_settings(settings), "outputs": until.split(",") if until else None}
    if size:
        return load_source(source, input=parse_sizes(size, "CxHxW", 3), **arguments)
    network = load_source(source, **arguments)
    if extent is None:
        return network
    return load_source(source, input=(network.input[0], *parse_sizes(extent, "HxW", 2)), **arguments)


def parse_settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """Parse the values of ``--set``; return the settings by name."""
    return dict(map(_parse_setting, texts))


def _parse_setting(text: str) -> tuple[str, Setting]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--set takes NAME=VALUE, as in classes=10, not {text!r}")
    if name in ("input", "outputs"):
        raise click.UsageError(f"--set sets an argument that the spec takes, or an option; {name} is neither")
    return name, value


def parse_depth(depth: str) -> int | None:
    """Parse the value of ``--depth``; return None for all levels."""
    if depth == "all":
        return None
    if not depth.isdecimal() or int(depth) < 1:
        raise click.UsageError(f"--depth takes an integer of at least 1, or all, not {depth!r}")
    return int(depth)


def parse_sizes(text: str, form: str, count: int) -> tuple[int, ...]:
    """Parse positive integers that are joined by x, such as 3x224x224."""
    sizes = text.lower().split("x")
    if len(sizes) != count or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise click.UsageError(f"expected {form}, as in {'x'.join(['3', '224', '224'][-count:])}, not {text!r}")
    return tuple(map(int, sizes))


def print_fitting(renderable: Table | str, drop: Sequence[str] = ()) -> None:
    """Print a table in the width of the terminal, in which the columns ``drop`` may be left out, the first one first.

    If the output is not a terminal, all columns are printed, one line for each row.
    """
    from rich.console import Console

    from resnet_spec.views.fitting import fit_table

    console = Console(markup=False, emoji=False)  # a network may be called [x] or :x:
    if not console.is_terminal:
        console = Console(width=NON_TTY_WIDTH, markup=False, emoji=False)
    console.print(renderable if isinstance(renderable, str) else fit_table(renderable, console, drop))


def print_problem(problem: Problem, *, err: bool = True) -> None:
    """Print a problem of a spec, in colours if the output is a terminal and NO_COLOR is not set.

    With ``err`` it goes to standard error, as it is why a command failed. For ``check`` it is the command's result.
    """
    colours = (
        (sys.stderr if err else sys.stdout).isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
    text = render_problem(problem, _paint) if colours else render_problem(problem)
    click.echo(f"{text}\n", err=err, color=colours)


def _paint(role: str, text: str) -> str:
    colour = {"error": "red", "warning": "yellow", "frame": "blue", "aside": "cyan"}.get(role)
    return click.style(text, fg=colour, bold=role in {"error", "warning", "strong"})


def print_json(data: object) -> None:
    """Print data as JSON."""
    click.echo(json.dumps(data, indent=2))


def show_progress(message: str) -> AbstractContextManager[object]:
    """Return a context that shows a message and a spinner while it is active, if standard error is a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    return console.status(Text(message)) if console.is_terminal else nullcontext()


@contextmanager
def status_line() -> Iterator[Callable[[str], None] | None]:
    """Show a status line while the context is active; yield the function that sets it, or None without a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("") as status:
        yield lambda message: status.update(Text(message))


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar of bytes and yield a function that updates it; yield None if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def describe_error(error: Exception) -> str:
    """Return an error as a sentence, with details in indented lines below it if it has some."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.strerror.lower()}: {error.filename}")
    render = getattr(error, "render", None) if _shows_all else None  # of a WeightsError, which names every array
    text = str(error) if render is None else render(sys.maxsize)
    first, *details = map(one_line, text.splitlines() or [""])
    return "\n".join([first, *(f"  {line.strip()}" for line in details)])
