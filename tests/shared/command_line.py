"""Run the command line, in a separate process or in this one."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest


def run_cli(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``resnet-spec`` in a separate process; return what it printed and its exit status."""
    command = [sys.executable, "-m", "resnet_spec", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def run_here(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``resnet-spec`` in this process, as if started in a folder; return what it printed and its exit status.

    An exception that ``main`` does not print as a sentence is raised. A process of its own takes half a second longer.
    """
    from resnet_spec.commands.main import main

    with (
        contextlib.chdir(folder or Path()),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["resnet-spec", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return subprocess.CompletedProcess(arguments, int(end.value.code or 0), out.getvalue(), err.getvalue())


_SEVERAL = """
import contextlib, io, json, sys, traceback
from resnet_spec.commands.main import main
runs = []
for arguments in json.load(sys.stdin):
    sys.argv, status = ["resnet-spec", *arguments], 1
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
    runs.append([status, out.getvalue(), err.getvalue()])
json.dump(runs, sys.stdout)
"""


def run_several(commands: list[list[str]], folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run ``resnet-spec`` several times in one separate process, which starts but once; return the results in order."""
    command = [sys.executable, "-c", _SEVERAL]
    text = json.dumps(commands)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=folder)
    runs = json.loads(done.stdout)
    return [subprocess.CompletedProcess(command, *run) for command, run in zip(commands, runs, strict=True)]
