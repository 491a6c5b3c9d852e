"""The error for a model that the language can't say."""

from __future__ import annotations

from collections.abc import Sequence

MAX_SHOWN = 30
FIRST_SIGNAL = 128


class ImportRefused(ValueError):
    """A model, or a file of one, that the language can't say. ``places`` lists each call at fault, with its reason."""

    def __init__(self, message: str, places: Sequence[str] = (), remedy: str = "") -> None:
        self.places = tuple(places)
        shown = [*places[:MAX_SHOWN], *([f"and {len(places) - MAX_SHOWN} more"] if len(places) > MAX_SHOWN else [])]
        super().__init__("\n".join([message, *shown, *([remedy] if remedy else [])]))


def is_signal(error: SystemExit) -> bool:
    """Return whether an exit is one by which the command line ends on a signal, and not one of a model's code."""
    return isinstance(error.code, int) and error.code >= FIRST_SIGNAL
