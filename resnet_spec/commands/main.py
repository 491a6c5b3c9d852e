"""The command line ``resnet-spec``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from resnet_spec.backend import BackendError
from resnet_spec.commands.completion import SpecName
from resnet_spec.commands.options import EXIT_ERROR, EXIT_INTERRUPTED, describe_error, print_problem
from resnet_spec.diagnostics.problems import SpecError, quote
from resnet_spec.diagnostics.remedies import command_line
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.library.load import EXTENDS_FROM

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
    "emit": "emit",
    "vectors": "vectors",
    "parity": "parity",
    "fuzz": "fuzz",
    "completion": "completion",
    "convert": "convert",
    "identify": "identify",
    "weights": "weights",
    "doctor": "doctor",
    "import": "import_",
    "compare-model": "compare_model",
}
"""Names of commands, each of which is a module in ``resnet_spec/commands/``, with the function in that module."""

MODULES = {"import": "import_model", "compare-model": "compare_model"}
"""The modules of commands whose names are no names of modules."""


class Commands(click.Group):
    """A group that imports only the command that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command's help in full, where click cuts it at the width of a line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(200)) for name, command in commands if command])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with. The error of an unknown one suggests what was meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"no such command {quote(name)}: {suggest(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"resnet_spec.commands.{MODULES.get(cmd_name, cmd_name)}"), COMMANDS[cmd_name]
        )
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and parameter.name in ("spec", "specs"):
                parameter.type = SpecName()
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="resnet-spec")
@click.option(
    "--extends-from",
    "folders",
    multiple=True,
    metavar="FOLDER",
    help="A folder of specs that those elsewhere may extend; without it, a spec extends bundled ones and files below "
    "its own folder.",
)
def cli(folders: tuple[str, ...]) -> None:
    """Convolutional networks as data: one YAML spec, the same network in PyTorch, PaddlePaddle and Flax."""
    if folders:  # an environment variable reaches the processes of parity, too
        os.environ[EXTENDS_FROM] = os.pathsep.join(folders)


def main() -> NoReturn:
    """Run the command line. An error in the input is printed as a sentence, and the exit status is 2."""
    _exit_on_signals()
    try:
        with command_line():
            cli.main(standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"see: {error.ctx.command_path} --help", err=True)
        sys.exit(EXIT_ERROR)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except SpecError as error:
        for problem in error.problems:
            print_problem(problem)
        sys.exit(EXIT_ERROR)
    except (BackendError, ValueError, OSError) as error:
        click.echo(f"error: {describe_error(error)}", err=True)
        sys.exit(EXIT_ERROR)
    sys.exit(0)


def _exit_on_signals() -> None:
    """Let a signal that asks for the end raise SystemExit, so that processes are stopped and files are deleted first.

    A signal that is ignored, as by ``nohup``, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
