"""``check``: every problem of a spec, or none."""

from __future__ import annotations

import sys

import click

from resnet_spec.commands.options import WRONG, json_option, said, show_json
from resnet_spec.load import load
from resnet_spec.source import Problem, SpecError


@click.command()
@click.argument("specs", nargs=-1, required=True)
@json_option
def check(specs: tuple[str, ...], as_json: bool) -> None:
    """Check specs, and print every problem of each."""
    wrong: list[dict[str, object]] = []
    for spec in specs:
        try:
            load(spec)
        except SpecError as error:
            wrong += [_problem(problem) for problem in error.problems]
            if not as_json:
                click.echo(f"{error}\n", err=True)
        except OSError as error:
            wrong.append({"message": said(error)})
            if not as_json:
                click.echo(f"error: {said(error)}\n", err=True)
        else:
            if not as_json:
                click.echo(f"{spec}: no problems")
    if as_json:
        show_json(wrong)
    if wrong:
        sys.exit(WRONG)


def _problem(problem: Problem) -> dict[str, object]:
    at = problem.at
    place = {"file": at.source.name, "line": at.line, "column": at.column, "end": at.end}
    return {"code": problem.code, "message": problem.message, **place, "help": problem.help}
