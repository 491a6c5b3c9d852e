"""The ``completion`` command: print a script that lets a shell complete commands, options and network names."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from resnet_spec.library import bundled

PROGRAM = "resnet-spec"


class SpecName(click.ParamType[str]):
    """The type of an argument that takes a bundled network's name or a file."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the bundled networks whose names start like this, and an item that makes the shell add files."""
        names = [CompletionItem(name) for name in bundled.names() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    To use it, put this line into the shell's startup file: eval "$(resnet-spec completion bash)"
    """
    completion_class = get_completion_class(shell)
    assert completion_class is not None  # click supports all three shells
    click.echo(completion_class(ctx.find_root().command, {}, PROGRAM, "_RESNET_SPEC_COMPLETE").source())
