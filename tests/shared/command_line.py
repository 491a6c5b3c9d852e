"""Run the command line in a separate process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_cli(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``resnet-spec`` in a separate process; return what it printed and its exit status."""
    command = [sys.executable, "-m", "resnet_spec", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
