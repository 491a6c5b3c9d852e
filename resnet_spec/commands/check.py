"""The ``check`` command: report every problem of specs, as text or in machine-readable formats."""

from __future__ import annotations

import json
import sys

import click

from resnet_spec.commands.options import (
    EXIT_ERROR,
    describe_error,
    input_option,
    load_network,
    print_problem,
    set_option,
)
from resnet_spec.diagnostics.problems import Problem, Source, Span, SpecError, one_line
from resnet_spec.network.warnings import find_warnings

FORMATS = ("text", "json", "github", "sarif")


@click.command()
@click.argument("specs", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Output format.")
@click.option("--json", "form", flag_value="json", help="Short for --format json.")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@set_option
@input_option
def check(specs: tuple[str, ...], form: str, strict: bool, settings: tuple[str, ...], size: str | None) -> None:
    """Check specs, and print every problem in each of them; - is standard input.

    All is printed to standard output. The exit status is 2 if a spec has errors, or warnings with --strict.
    """
    problems: list[Problem] = []
    for spec in specs:
        of_spec = _find_problems(spec, settings, size)
        problems += of_spec
        if form == "text":
            _print_problems(spec, of_spec)
    if form != "text":
        click.echo(_render(problems, form))
    if any(strict or problem.level == "error" for problem in problems):
        sys.exit(EXIT_ERROR)


def _find_problems(spec: str, settings: tuple[str, ...], size: str | None) -> list[Problem]:
    try:
        return find_warnings(load_network(spec, settings, size))
    except SpecError as error:
        return list(error.problems)
    except OSError as error:
        return [Problem("RS209", describe_error(error), Span(Source(spec, ""), 1, 1, 1))]


def _print_problems(spec: str, problems: list[Problem]) -> None:
    for problem in problems:
        print_problem(problem, err=False)
    if not any(problem.level == "error" for problem in problems):
        warnings = f", {len(problems)} warning{'s' * (len(problems) > 1)}" if problems else ""
        click.echo(f"{one_line(click.format_filename(spec))}: no problems{warnings}")


def _render(problems: list[Problem], form: str) -> str:
    from resnet_spec.diagnostics import formats  # it reads all codes, which takes longer than checking most specs

    match form:
        case "github":
            return formats.as_github(problems)
        case "sarif":
            from importlib.metadata import version

            return json.dumps(formats.as_sarif(problems, version("resnet-spec")), indent=2)
        case _:
            return json.dumps(formats.as_json(problems), indent=2)
