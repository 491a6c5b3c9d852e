"""Write a tutorial as a Jupyter notebook, from its page: prose, Python, files and commands become cells in order.

``python docs/generated.py`` writes the notebooks beside their pages. They are committed without outputs, and tests
compare them with what is generated and run them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

TUTORIALS = ("resnet-from-scratch",)
"""The tutorials that are notebooks too."""

FENCE = re.compile(r'^([ ]*)```(\w*)(?: title="([^"]+)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
EXIT_STATUS = re.compile(r"\s+# exit status (\d+)$")
LOCAL_IMAGE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n", re.MULTILINE)
LOCAL_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]*\)")

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Cell(NamedTuple):
    """A cell of a notebook, and its text."""

    kind: Literal["markdown", "code"]
    text: str


def notebook_path(page: Path) -> Path:
    """Return where the notebook of a page is."""
    return page.with_suffix(".ipynb")


def write_notebook(markdown: str) -> str:
    """Return the text of a page's notebook."""
    cells = [_describe_cell(number, cell) for number, cell in enumerate(split_page(markdown))]
    notebook = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def split_page(markdown: str) -> Iterator[Cell]:
    """Yield the cells of a page. What is only to be read, such as output, stays in the prose around it."""
    prose, start = "", 0
    for fence in FENCE.finditer(markdown):
        prose += markdown[start : fence.start()]
        start = fence.end()
        code = _to_code(*fence.groups()[1:])
        if code:
            yield from _to_prose(prose)
            yield Cell("code", code.rstrip("\n"))
            prose = ""
        else:
            prose += fence[0]
    yield from _to_prose(prose + markdown[start:])


def _to_code(language: str, title: str | None, text: str) -> str:
    """Return the code of a cell that does what a block of a page says, or "" for a block that is only read."""
    match language:
        case "python":
            return text
        case "yaml" if title:
            return f"%%writefile {title}\n{text}"
        case "console":
            lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
            return "\n".join(f"!{EXIT_STATUS.sub('', line)}" for line in lines)
        case _:
            return ""


def _to_prose(markdown: str) -> Iterator[Cell]:
    """Yield a cell of prose, if there is any. A notebook is moved about alone, so links to pages keep their text."""
    text = LOCAL_LINK.sub(r"\1", LOCAL_IMAGE.sub("", markdown)).strip()
    if text:
        yield Cell("markdown", text)


def _describe_cell(number: int, cell: Cell) -> dict[str, Any]:
    """Return a cell as a notebook's file has it."""
    record: dict[str, Any] = {"cell_type": cell.kind, "id": f"cell-{number}", "metadata": {}}
    if cell.kind == "code":
        record |= {"execution_count": None, "outputs": []}
    return record | {"source": cell.text.splitlines(keepends=True)}
