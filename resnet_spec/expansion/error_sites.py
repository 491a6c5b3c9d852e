"""Where a problem in a network is shown: at what its author wrote, with the line of the block that it arose in beside it."""

from __future__ import annotations

from collections.abc import Iterable

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Source, Span


class Reporter:
    """Problems of a network whose author wrote ``root``."""

    def __init__(self, problems: Problems, root: Source) -> None:
        self.problems = problems
        self.root = root
        self.sites: list[tuple[str, Span]] = []
        """The blocks that the walk is in, from outside in: each by its name, and where it is used."""
        self.shared: set[str] = set()
        """The names of files that hold a block for everyone's use."""

    def report(
        self,
        code: str,
        message: str,
        at: Span,
        help: str = "",
        notes: Iterable[Note] = (),
        others: Iterable[Span] | None = None,
        to: Problems | None = None,
    ) -> None:
        """Keep a problem that arises at a place.

        It is shown where its author would mend it: not in a block for everyone's use, but where that is used; and where things do
        not go together, at the one of them, or of ``others``, that the author wrote.
        """
        places = [at, *(others or ())]
        if others is not None or self._rank(at) == 2:
            places += [used for _, used in self.sites]
        best = min(places, key=self._rank)  # of several alike, the first
        beside = list(notes)
        if best is not at and not any(_same_line(note.at, at) for note in beside):
            inside = f"in block {self.sites[-1][0]}, " if self.sites else ""
            beside.append(Note(f"{inside}it is this that fails", at))
        elif best is at and self.sites and not _same_line(self.sites[0][1], at):
            beside.append(Note(f"block {self.sites[0][0]} is used here", self.sites[0][1]))
        # A block says the same of each line that it is used on; one line is told once.
        (self.problems if to is None else to).add(Problem(code, message, best, help, tuple(beside)), inner=at)

    def _rank(self, at: Span) -> int:
        if at.source.name == self.root.name or at.source.name.startswith("--set "):
            return 0
        return 2 if at.source.name in self.shared else 1


def _same_line(one: Span, other: Span) -> bool:
    return (one.source.name, one.line) == (other.source.name, other.line)
