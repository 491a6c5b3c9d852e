"""``completion``: a script for a shell, so that Tab completes commands, options and the names of networks."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from resnet_spec.library import bundled

PROGRAM = "resnet-spec"


class SpecName(click.ParamType[str]):
    """A spec: a bundled network's name, or a file."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The bundled networks that begin so; and, for the shell to find, files."""
        names = [CompletionItem(name) for name in bundled.names() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script for the shell to read at its start, as in: eval "$(resnet-spec completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, "_RESNET_SPEC_COMPLETE").source())
