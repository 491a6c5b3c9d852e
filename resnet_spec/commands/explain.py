"""The ``explain`` command: print what error codes mean."""

from __future__ import annotations

from dataclasses import asdict

import click

from resnet_spec.commands.options import json_option, print_json
from resnet_spec.diagnostics.problems import Problem, SpecError
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.library.load import loads
from resnet_spec.network.warnings import find_warnings


@click.command()
@click.argument("names", metavar="[CODE]...", nargs=-1)
@json_option
def explain(names: tuple[str, ...], as_json: bool) -> None:
    """Explain error codes, such as RS101, or list all of them."""
    from resnet_spec.diagnostics.codes import codes

    known = codes()
    unknown = [name for name in names if name.upper() not in known]
    if unknown:
        raise click.UsageError(f"there is no error code {unknown[0]!r}; {suggest(unknown[0].upper(), known)}")
    if as_json:
        print_json([asdict(known[name.upper()]) for name in names or known])
    elif names:
        click.echo("\n\n".join(_explain(name.upper()) for name in names))
    else:
        click.echo("\n".join(f"{code}  {meaning.title}" for code, meaning in known.items()))


def _explain(name: str) -> str:
    from textwrap import fill, indent

    from resnet_spec.diagnostics.codes import codes

    code = codes()[name]
    problems = "\n\n".join(map(str, _find_problems(code.wrong)))
    parts = [
        f"{name}: {code.title}",
        fill(code.explanation, 100),
        "A spec that causes it:",
        indent(code.wrong.rstrip(), "    "),
        indent(problems, "    "),
        "The corrected spec:",
        indent(code.right.rstrip(), "    "),
    ]
    return "\n\n".join(parts)


def _find_problems(text: str) -> list[Problem]:
    try:
        return find_warnings(loads(text, name="my.yaml"))
    except SpecError as error:
        return list(error.problems)
