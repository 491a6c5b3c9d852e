"""How large an image has to be: the smallest that every window of a network fits on."""

from __future__ import annotations

from collections.abc import Callable

MAX_SIDE = 2**14
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
MAX_LAYERS_TRIED = 100_000
"""How many layers may be tried in all."""

Image = tuple[int, int, int]
Small = Callable[[Image], set[str]]
"""What an image of (channels, height, width) is too small or too odd for: codes of problems, none if it will do."""

WINDOW = "RS403"


def find_smallest_input(image: Image, small: Small, layers: int) -> Image | None:
    """The smallest image that will do in place of one that does not; None if there is none, or it takes too long to find."""
    channels, height, width = image
    tries = max(0, MAX_LAYERS_TRIED // max(1, layers) - len(MULTIPLES) - 1)
    side = 1
    if WINDOW in small(image):
        found = _side(lambda side: WINDOW not in small((channels, side, side)), min(height, width), tries)
        if found is None:
            return None
        side = found
    for multiple in MULTIPLES:
        larger = (channels, _up(max(height, side), multiple), _up(max(width, side), multiple))
        if not small(larger):
            return larger
    return None


def _side(fits: Callable[[int], bool], low: int, tries: int) -> int | None:
    """The least side that fits, above one that does not. What fits, fits all the more where it is larger."""
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


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
