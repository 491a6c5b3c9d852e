"""The part of the playground that is Python: it keeps a spec as a file, and answers each edit with what has changed.

A Web Worker runs it in Pyodide, with the same page and the same watching of files as ``resnet-spec serve``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnet_spec import emit, load
from resnet_spec.views.drawing.render import draw
from resnet_spec.views.page.page import render_document
from resnet_spec.views.page.server import WatchedSpec

FILE = "network.yaml"


class Session:
    """A spec that is edited, and the page that shows it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / FILE
        self._write(text)
        self.watched = WatchedSpec(str(self.path), {})
        state = self.watched.state()
        self.version = state["version"]
        self.html = render_document(state["name"], state, live="parent")
        self._note(state)

    def edit(self, text: str) -> dict[str, Any] | None:
        """Return what the page does not know yet after an edit, or None if nothing that it shows has changed."""
        self._write(text)
        news = self.watched.changes_since(self.version)
        if news is not None:
            self.version = news["version"]
            self._note(news)
        return news

    def make(self, kind: str) -> str:
        """Return the drawing for "svg", or the code for a backend. Raises SpecError if the spec is invalid."""
        return draw(load(self.path), "svg").decode() if kind == "svg" else emit(self.path, backend=kind)

    def _note(self, state: dict[str, Any]) -> None:
        self.wrong = bool(state["problems"])
        self.problems = own_problems(state)

    def _write(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8", newline="\n")


def own_problems(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the problems that lie in the edited file, and not in one that it extends or uses."""
    files = [file["name"] for file in state.get("files", [])]
    return [each for each in state["problems"] if each["file"] is not None and files[each["file"]] == FILE]
