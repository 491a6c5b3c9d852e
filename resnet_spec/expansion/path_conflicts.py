"""Which paths of a network are taken: every part has one of its own, and what dotted names lie in is no part as well."""

from __future__ import annotations

from resnet_spec.diagnostics.problems import Note, Span
from resnet_spec.expansion.error_sites import Reporter


class PathRegistry:
    """The paths of parts, and those that only hold what a name with dots puts there: ``a`` for a stage called ``a.b``."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.parts: dict[str, Span] = {}
        self.holders: dict[str, Span] = {}

    def reserve(self, parent: str, name: str, at: Span) -> None:
        """A name is used beneath a parent."""
        if "." in name:
            steps = name.split(".")[:-1]
            for count in range(1, len(steps) + 1):
                path = ".".join([*([parent] if parent else []), *steps[:count]])
                self.holders.setdefault(path, at)

    def claim(self, path: str, at: Span) -> None:
        """A part is at a path."""
        if path in self.parts:
            notes = [Note("the other one", self.parts[path])]
            self.reporter.report("RS207", f"two parts are called {path}", at, "call one of them otherwise", notes)
        self.parts[path] = at

    def report_conflicts(self) -> None:
        """Note each path that is a part, and yet has what lies outside that part beneath it."""
        for path in self.holders.keys() & self.parts.keys():
            notes = [Note(f"{path} is made of this", self.parts[path])]
            message = f"this puts layers into {path}, which is a part of its own"
            self.reporter.report(
                "RS207", message, self.holders[path], "write them where that is, or call one otherwise", notes
            )
