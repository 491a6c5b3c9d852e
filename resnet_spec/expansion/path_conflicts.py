"""Check the paths of parts: no two parts share one, and a part's path is not the prefix of a dotted name outside it."""

from __future__ import annotations

from resnet_spec.diagnostics.problems import Note, Span
from resnet_spec.expansion.error_sites import Reporter


class PathRegistry:
    """The paths of parts, and the prefixes of dotted names: ``a`` for a stage named ``a.b``."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.parts: dict[str, Span] = {}
        self.holders: dict[str, Span] = {}

    def reserve(self, parent: str, name: str, span: Span) -> None:
        """Record the prefixes of a dotted name below a parent."""
        if "." in name:
            steps = name.split(".")[:-1]
            for count in range(1, len(steps) + 1):
                path = ".".join([*([parent] if parent else []), *steps[:count]])
                self.holders.setdefault(path, span)

    def claim(self, path: str, span: Span) -> None:
        """Record a part at a path; report a second one at the same path."""
        if path in self.parts:
            notes = [Note("the other part", self.parts[path])]
            self.reporter.report("RS207", f"two parts are named {path}", span, "rename one of them", notes)
        self.parts[path] = span

    def report_conflicts(self) -> None:
        """Report each path that is both a part and the holder of layers outside that part."""
        for path in self.holders.keys() & self.parts.keys():
            notes = [Note(f"{path} is defined here", self.parts[path])]
            message = f"this puts layers into {path}, which is a part itself"
            help = "write them inside that part, or rename one of the two"
            self.reporter.report("RS207", message, self.holders[path], help, notes)
