"""Run notebooks, from first cell to last, in a kernel of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.frameworks import REQUIRED


def run_notebook(path: Path, folder: Path, until: str = "") -> list[list[Any]]:
    """Run a notebook in a folder, or the cells before the first that has a text, and return each code cell's outputs.

    Fails at the first cell that raises. Skips the test if no notebooks can be run here.
    """
    try:
        import nbclient
        import nbformat
    except ModuleNotFoundError as error:
        if "notebook" in REQUIRED:
            raise
        pytest.skip(f"a notebook's test needs {error.name}, which is not installed")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    if until:
        end = next(number for number, cell in enumerate(notebook.cells) if until in cell.source)
        notebook.cells = notebook.cells[:end]
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
