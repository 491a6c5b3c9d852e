"""Find the smallest image that a network accepts."""

from __future__ import annotations

from collections.abc import Callable

MAX_SIDE = 2**14
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
MAX_LAYERS_TRIED = 100_000
"""The number of layers that the search may visit in total, which bounds its time."""

Image = tuple[int, int, int]
FindProblems = Callable[[Image], set[str]]
"""Returns the codes of the problems that a network has with the size of an image (channels, height, width)."""

WINDOW = "RS403"
"""The code of a window that is larger than the feature map."""


def find_smallest_input(image: Image, find_problems: FindProblems, layers: int) -> Image | None:
    """Return the smallest image without problems, at least as large as the given one.

    The largest window sets the smallest side; other problems may need height and width to be multiples of a number.
    Returns None if there is no such image, or if the search would take too long for a network with that many layers.
    """
    channels, height, width = image
    tries = max(0, MAX_LAYERS_TRIED // max(1, layers) - len(MULTIPLES) - 1)
    side = 1
    if WINDOW in find_problems(image):
        fitting = _find_side(
            lambda side: WINDOW not in find_problems((channels, side, side)), min(height, width), tries
        )
        if fitting is None:
            return None
        side = fitting
    for multiple in MULTIPLES:
        larger = (channels, _round_up(max(height, side), multiple), _round_up(max(width, side), multiple))
        if not find_problems(larger):
            return larger
    return None


def _find_side(fits: Callable[[int], bool], low: int, tries: int) -> int | None:
    """Return the smallest side that fits, by bisection above one that does not; all sides larger than it fit too."""
    high = max(2, 2 * low)
    while not fits(high):
        low, high, tries = high, 2 * high, tries - 1
        if high > MAX_SIDE or tries <= 0:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
