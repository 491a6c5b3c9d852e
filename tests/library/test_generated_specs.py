"""Specs that a script writes from a table are what the script would write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resnet_spec.library.bundled import directory

FOLDER = Path(str(directory())) / "generate"
OTHERS = {"writing.py", "collect_weights.py", "weights.py"}  # shared, or for data that is not in the repository
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name not in OTHERS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_generated_specs_are_current(script: Path) -> None:
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=300)
    assert checked.returncode == 0, checked.stderr
