"""Suggestions for unknown names: similar known names, and what other frameworks' terms are called here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

MAX_LISTED = 16
"""Most known names that a message lists."""
MAX_KNOWN = 400
"""Most known names that an unknown one is compared with, which bounds the time for large specs."""
MAX_LETTERS = 40
"""Longest unknown name for which a similar one is searched."""

FOREIGN_TERMS = {
    "momentum": (
        "decay",
        "decay is the weight of the old statistics: momentum 0.1 in PyTorch, and 0.9 in Paddle and Flax, is decay: 0.9",
    ),
    "eps": ("epsilon", ""),
    "out_channels": ("out", ""),
    "filters": ("out", ""),
    "features": ("out", ""),
    "out_features": ("out", ""),
    "channels": ("out", ""),
    "planes": ("out", ""),
    "size": ("kernel", ""),
    "kernel_shape": ("kernel", ""),
    "strides": ("stride", ""),
    "use_bias": ("bias", ""),
    "p": ("rate", ""),
    "ceil_mode": ("ceil", ""),
    "count_include_pad": ("count_padding", ""),
    "exclusive": ("count_padding", "count_padding is the opposite of Paddle's exclusive"),
    "negative_slope": ("slope", ""),
    "num_groups": ("groups", ""),
    "repeats": ("depth", ""),
    "num_blocks": ("depth", ""),
    "num_classes": ("classes", ""),
    "bn": ("batch_norm", ""),
    "fc": ("linear", ""),
    "dense": ("linear", ""),
    "swish": ("silu", ""),
    "gap": ("global_avg_pool", ""),
    "adaptive_avg_pool": ("global_avg_pool", ""),
    "se": ("squeeze_excite", ""),
    "conv2d": ("conv", ""),
    "conv3x3": ("conv", ""),
}
"""Terms of frameworks and papers: each with the name that is used here, and a remark if their meanings differ."""


def suggest(unknown: str, known: Iterable[str], present: Collection[str] = ()) -> str:
    """Return a sentence that suggests the known name most similar to an unknown one, or else lists known names.

    Names that are ``present`` already are less likely to be suggested. Returns "" if there are no known names.
    """
    unknown, names = str(unknown), list(known)  # what a caller passes instead of a name may be anything
    match = find_nearest(unknown, names, present)
    if match is not None:
        remark = FOREIGN_TERMS.get(unknown.lower(), ("", ""))[1]
        return f"did you mean {match!r}?" + (f" {remark}" if remark else "")
    return f"known: {', '.join(names[:MAX_LISTED])}{', ...' if names[MAX_LISTED:] else ''}" if names else ""


def translate(unknown: str) -> str:
    """Return the name that is used here for a term of frameworks and papers; "" if it is not known."""
    return FOREIGN_TERMS.get(unknown.lower(), ("", ""))[0]


def find_nearest(unknown: str, known: Iterable[str], present: Collection[str] = ()) -> str | None:
    """Return the known name that was most likely meant by an unknown one, or None if there is no similar name.

    In order of preference: the name here for another framework's term; the name with the smallest edit distance, if
    that is small enough; and, among the names that are not ``present``, a prefix of the unknown name, a similar name
    by difflib, and a name that starts with the unknown one.
    """
    names = list(known)[:MAX_KNOWN]
    if len(unknown) > MAX_LETTERS:
        return None
    if translate(unknown) in names:
        return translate(unknown)
    max_distance = max(1, len(unknown) // 3)
    candidates = [name for name in names if abs(len(name) - len(unknown)) <= max_distance]
    distances = [(edit_distance(unknown, name), name) for name in candidates]
    smallest = min((distance for distance, _ in distances), default=max_distance + 1)
    nearest = [name for distance, name in distances if distance == smallest < len(name)]
    if smallest <= max_distance and nearest:
        # Ties: most letters in common, then names that are not present, then the nearest number (layer4 for layer5).
        return max(
            nearest,
            key=lambda name: (
                (Counter(unknown) & Counter(name)).total(),
                name not in present,
                -_number_distance(unknown, name),
            ),
        )
    absent = [name for name in names if name not in present]
    prefixes = [name for name in absent if len(name) > 2 and unknown.startswith(name)]
    return max(prefixes, key=len) if prefixes else _find_similar(unknown, absent)


@lru_cache(maxsize=2**15)  # the same names recur each time that a block is used
def one_edit_away(unknown: str, known: tuple[str, ...]) -> str:
    """Return the first known name whose edit distance from an unknown one is 1, or "" if there is none.

    >>> one_edit_away("bloc", ("op", "block"))
    'block'
    """
    candidates = (name for name in known if abs(len(name) - len(unknown)) <= 1)
    return next((name for name in candidates if edit_distance(unknown, name) == 1), "")


def edit_distance(left: str, right: str) -> int:
    """Return the number of edits that turn one word into another, ignoring case (optimal string alignment distance).

    An edit changes, inserts or deletes a letter, or swaps two adjacent ones.

    >>> edit_distance("dpeth", "depth"), edit_distance("ou", "out"), edit_distance("Conv", "conv")
    (1, 1, 0)
    """
    left, right = left.lower(), right.lower()
    previous: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        second_previous, previous, row = previous, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j - 1] + 1, previous[j] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, second_previous[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _number_distance(left: str, right: str) -> int:
    """Return the difference of the numbers at the ends of two words; 0 if one of them has none."""
    first, second = (word[len(word.rstrip("0123456789")) :] for word in (left, right))
    return abs(int(first) - int(second)) if first and second else 0


def _find_similar(unknown: str, names: list[str]) -> str | None:
    import difflib  # loaded only when there is a problem

    short = [name for name in names if len(name) <= 2 * MAX_LETTERS]
    similar = difflib.get_close_matches(unknown, short, n=1)
    longer = [name for name in short if len(unknown) > 1 and name.startswith(unknown)]
    return next(iter([*similar, *longer]), None)
