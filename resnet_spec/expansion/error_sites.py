"""Choose where to show a problem: at a line that the author of the spec wrote, with a note on the line that fails."""

from __future__ import annotations

from collections.abc import Iterable

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Source, Span


class Reporter:
    """Reports the problems of a network; ``root`` is the file that its author wrote."""

    def __init__(self, problems: Problems, root: Source) -> None:
        self.problems = problems
        self.root = root
        self.sites: list[tuple[str, Span]] = []
        """The blocks being expanded, outermost first: the name of each, and where it is used."""
        self.shared: set[str] = set()
        """The files of bundled blocks, which the author did not write."""

    def report(
        self,
        code: str,
        message: str,
        span: Span,
        help: str = "",
        notes: Iterable[Note] = (),
        others: Iterable[Span] | None = None,
        to: Problems | None = None,
    ) -> None:
        """Add a problem that arises at a place.

        It is shown where the author can fix it. A problem inside a bundled block is shown where the block is used. If
        values at several places do not match, ``at`` and ``others``, it is shown at the one that the author wrote.
        """
        places = [span, *(others or ())]
        if others is not None or self._rank(span) == 2:
            places += [used for _, used in self.sites]
        best = min(places, key=self._rank)  # the first of several with the same rank
        all_notes = list(notes)
        if best is not span and not any(_same_line(note.span, span) for note in all_notes):
            block = f"in block {self.sites[-1][0]}, " if self.sites else ""
            all_notes.append(Note(f"{block}this line fails", span))
        elif best is span and self.sites and not _same_line(self.sites[0][1], span):
            all_notes.append(Note(f"block {self.sites[0][0]} is used here", self.sites[0][1]))
        # A block that is used several times has the same problem each time; Problems keeps one for each line.
        (self.problems if to is None else to).add(Problem(code, message, best, help, tuple(all_notes)), inner=span)

    def _rank(self, span: Span) -> int:
        """Return 0 for what the user wrote or set, 1 for the files it extends, and 2 for bundled blocks."""
        if span.source.name == self.root.name or is_setting(span):
            return 0
        return 2 if span.source.name in self.shared else 1


def is_setting(span: Span) -> bool:
    """Return whether a value was set by the caller and is not in a file."""
    return span.source.is_setting


def _same_line(one: Span, other: Span) -> bool:
    return (one.source.name, one.line) == (other.source.name, other.line)
