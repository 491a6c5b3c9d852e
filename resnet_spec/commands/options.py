"""What commands share: options, and how they read and print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from resnet_spec.diagnostics.problems import Problem, render_problem
from resnet_spec.library.load import Setting, load
from resnet_spec.network.network import Network

if TYPE_CHECKING:
    from rich.console import RenderableType

WRONG = 2
"""The exit status of a command that could not do what was asked."""
PAPER = 300
"""How many columns there are to print on where there is no terminal."""
DIFFERS = 1
"""That of one which found what it looks for: a network that is not the same."""

set_option = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a name that the spec takes."
)
input_option = click.option("--input", "size", metavar="CxHxW", help="Show shapes for an image of this size.")
extent_option = click.option(
    "--size", "extent", metavar="HxW", help="Show shapes for an image of this height and width."
)
depth_option = click.option("--depth", default="all", metavar="1|2|...|all", help="Levels to show. [default: all]")
spec_option = click.option("--spec", metavar="SPEC", help="The network. [default: what the file itself names]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def loaded(spec: str, settings: tuple[str, ...], size: str | None = None, extent: str | None = None) -> Network:
    """The network of a command's argument and options, for an image of ``size`` CxHxW, or of ``extent`` HxW."""
    if size and extent:
        raise click.UsageError("--input says height and width already; leave --size out")
    if size:
        return load(spec, input=numbers(size, "CxHxW", 3), **settings_of(settings))
    network = load(spec, input=None, **settings_of(settings))
    if extent is None:
        return network
    return load(spec, input=(network.input[0], *numbers(extent, "HxW", 2)), **settings_of(settings))


def settings_of(texts: tuple[str, ...]) -> dict[str, Any]:
    """What ``--set`` was given, by name."""
    return dict(map(_setting, texts))


def _setting(text: str) -> tuple[str, Setting]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--set takes NAME=VALUE, as in classes=10, not {text!r}")
    if name in ("input", "outputs"):
        raise click.UsageError(f"--set gives a spec what it takes or an option; {name} is neither")
    return name, value


def levels(depth: str) -> int | None:
    """What ``--depth`` was given: None for all."""
    if depth == "all":
        return None
    if not depth.isdecimal() or int(depth) < 1:
        raise click.UsageError(f"--depth takes a number from 1, or all, not {depth!r}")
    return int(depth)


def numbers(text: str, form: str, count: int) -> tuple[int, ...]:
    """Numbers joined by x, as in 3x224x224."""
    found = text.lower().split("x")
    if len(found) != count or not all(number.isdecimal() and int(number) > 0 for number in found):
        raise click.UsageError(f"expected {form}, as in {'x'.join(['3', '224', '224'][-count:])}, not {text!r}")
    return tuple(map(int, found))


def show(renderable: Any, *narrower: RenderableType) -> None:
    """Print by rich: the first that fits the terminal, or the first where there is none."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if not console.is_terminal:
        Console(width=PAPER).print(renderable)
        return
    endless = console.options.update(width=PAPER)
    found = (one for one in (renderable, *narrower) if Measurement.get(console, endless, one).maximum <= console.width)
    console.print(next(found, (renderable, *narrower)[-1]))


def show_problem(problem: Problem) -> None:
    """Print a problem of a spec to standard error: in colours if that is a terminal, and NO_COLOR is not set."""
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    click.echo(
        f"{render_problem(problem, _painted) if colours else render_problem(problem)}\n", err=True, color=colours
    )


def _painted(role: str, text: str) -> str:
    colour = {"error": "red", "warning": "yellow", "frame": "blue", "aside": "cyan"}.get(role)
    return click.style(text, fg=colour, bold=role in {"error", "warning", "strong"})


def show_json(data: object) -> None:
    """Print as JSON."""
    click.echo(json.dumps(data, indent=2))


def progress(message: str) -> AbstractContextManager[object]:
    """A line that says what is being done while a context lasts, where someone looks."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(message) if console.is_terminal else nullcontext()


@contextmanager
def status_line() -> Iterator[Callable[[str], None] | None]:
    """A line that says what is looked at, where someone looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("") as status:
        yield status.update


def said(error: Exception) -> str:
    """An error as one sentence."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}"
    return str(error)
