"""``resnet-spec``: look at networks, check them, run them and compare frameworks, from a shell."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import click

from resnet_spec.backend import BackendError
from resnet_spec.commands.completion import SpecName
from resnet_spec.commands.options import WRONG, said, show_problem
from resnet_spec.diagnostics.problems import SpecError

COMMANDS = {
    "list": "list_",
    "show": "show_",
    "compare": "compare",
    "diff": "diff",
    "draw": "draw_",
    "serve": "serve",
    "check": "check",
    "explain": "explain",
    "new": "new",
    "schema": "schema",
    "run": "run_",
    "export": "export",
    "parity": "parity",
    "fuzz": "fuzz",
    "completion": "completion",
    "convert": "convert",
    "identify": "identify",
    "weights": "weights",
}
"""Each command, which is a module of ``resnet_spec/commands/``, and the function in it. Only the one called is imported."""


class Commands(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"resnet_spec.commands.{cmd_name}"), COMMANDS[cmd_name])
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and parameter.name in ("spec", "specs"):
                parameter.type = SpecName()
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="resnet-spec")
def cli() -> None:
    """Residual networks as data: one YAML spec, the same network in PyTorch, PaddlePaddle and Flax."""


def main() -> NoReturn:
    """Run the command line. Whatever is wrong with the input is said in sentences, with exit status 2."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except SpecError as error:
        for problem in error.problems:
            show_problem(problem)
        sys.exit(WRONG)
    except (BackendError, ValueError, OSError) as error:
        click.echo(f"error: {said(error)}", err=True)
        sys.exit(WRONG)
    sys.exit(0)


if __name__ == "__main__":
    main()
