"""``explain``: what the code of a problem means."""

from __future__ import annotations

import click

from resnet_spec.diagnostics.problems import Problem, SpecError
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.library.load import loads
from resnet_spec.network.warnings import find_warnings


@click.command()
@click.argument("names", metavar="[CODE]...", nargs=-1)
def explain(names: tuple[str, ...]) -> None:
    """Explain the code of a problem, as in RS101, or list all codes."""
    from resnet_spec.diagnostics.codes import codes

    known = codes()
    unknown = [name for name in names if name.upper() not in known]
    if unknown:
        raise click.UsageError(f"no problem has the code {unknown[0]!r}; {suggest(unknown[0].upper(), known)}")
    if names:
        click.echo("\n\n".join(_explained(name.upper()) for name in names))
    else:
        click.echo("\n".join(f"{code}  {meaning.title}" for code, meaning in known.items()))


def _explained(name: str) -> str:
    from textwrap import fill, indent

    from resnet_spec.diagnostics.codes import codes

    code = codes()[name]
    parts = [f"{name}: {code.title}", fill(code.says, 100), "This gives it:", indent(code.wrong.rstrip(), "    ")]
    parts += [indent(str(problem), "    ") for problem in _problems(code.wrong)]
    return "\n\n".join([*parts, "This does not:", indent(code.right.rstrip(), "    ")])


def _problems(text: str) -> list[Problem]:
    try:
        return find_warnings(loads(text, name="my.yaml"))
    except SpecError as error:
        return list(error.problems)
