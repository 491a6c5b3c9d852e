"""Check the paths of parts: no two parts share one, and a part's path is not the prefix of a dotted name outside it."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.diagnostics.problems import Note, Problems, Span
from resnet_spec.expansion.error_sites import Reporter


class PathRegistry:
    """The paths of parts, and the prefixes of dotted names: ``a`` for a stage named ``a.b``."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.names: dict[str, Span] = {}
        self.parts: dict[str, Span] = {}
        self.holders: dict[str, Span] = {}
        self.duplicates: dict[str, Problems] = {}
        """The problem of each path that several parts have."""

    def reserve(self, parent: str, name: str, span: Span) -> None:
        """Record where a name below a parent is written, and the prefixes of a dotted one."""
        self.names[f"{parent}.{name}" if parent else name] = span
        if "." in name:
            steps = name.split(".")[:-1]
            for count in range(1, len(steps) + 1):
                path = ".".join([*([parent] if parent else []), *steps[:count]])
                self.holders.setdefault(path, span)

    def claim(self, path: str, span: Span) -> None:
        """Record a part at a path. It is shown at its name or, if that is not recorded, at ``span``."""
        span = self.names.get(path, span)
        if path in self.parts:
            notes = [Note("the other part", self.parts[path])]
            to = self.duplicates.setdefault(path, Problems())
            self.reporter.report("RS207", f"two parts are named {path}", span, "rename one of them", notes, to=to)
        self.parts[path] = span

    def report_conflicts(self) -> None:
        """Report each path that several parts have, and each that is also the holder of layers outside its part.

        Two blocks of one name have many paths in common: only that of the blocks themselves is reported.
        """
        for path, problems in self.duplicates.items():
            if not any(holder in self.duplicates for holder in _holders(path)):
                for problem in problems:
                    self.reporter.problems.add(problem)
        for path in self.holders.keys() & self.parts.keys() - self.duplicates.keys():
            notes = [Note(f"{path} is defined here", self.parts[path])]
            message = f"this puts layers into {path}, which is a part itself"
            help = "write them inside that part, or rename one of the two"
            self.reporter.report("RS207", message, self.holders[path], help, notes)


def _holders(path: str) -> Iterator[str]:
    """Yield the paths of the parts around a part."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path
