"""``check``: every problem of a spec, or none."""

from __future__ import annotations

import json
import sys

import click

from resnet_spec.commands.options import WRONG, input_option, loaded, said, set_option, show_problem
from resnet_spec.diagnostics.problems import Problem, Source, Span, SpecError
from resnet_spec.network.warnings import find_warnings

FORMATS = ("text", "json", "github", "sarif")


@click.command()
@click.argument("specs", nargs=-1, required=True)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="How problems are printed."
)
@click.option("--json", "form", flag_value="json", help="Short for --format json.")
@click.option("--strict", is_flag=True, help="Let warnings count as problems.")
@set_option
@input_option
def check(specs: tuple[str, ...], form: str, strict: bool, settings: tuple[str, ...], size: str | None) -> None:
    """Check specs, and print every problem of each."""
    found: list[Problem] = []
    for spec in specs:
        problems = _found(spec, settings, size)
        found += problems
        if form == "text":
            _tell(spec, problems)
    if form != "text":
        click.echo(_reported(found, form))
    if any(strict or problem.level == "error" for problem in found):
        sys.exit(WRONG)


def _found(spec: str, settings: tuple[str, ...], size: str | None) -> list[Problem]:
    try:
        return find_warnings(loaded(spec, settings, size))
    except SpecError as error:
        return list(error.problems)
    except OSError as error:
        return [Problem("RS209", said(error), Span(Source(spec, ""), 1, 1, 1))]


def _tell(spec: str, problems: list[Problem]) -> None:
    for problem in problems:
        show_problem(problem)
    if not any(problem.level == "error" for problem in problems):
        warnings = f", {len(problems)} warning{'s' * (len(problems) > 1)}" if problems else ""
        click.echo(f"{click.format_filename(spec)}: no problems{warnings}")


def _reported(problems: list[Problem], form: str) -> str:
    from resnet_spec.diagnostics import formats  # what it needs of codes takes longer to read than most specs

    match form:
        case "github":
            return formats.as_github(problems)
        case "sarif":
            from importlib.metadata import version

            return json.dumps(formats.as_sarif(problems, version("resnet-spec")), indent=2)
        case _:
            return json.dumps(formats.as_json(problems), indent=2)
