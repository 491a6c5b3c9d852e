"""What to say of a name that is not known: the nearest one that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

MAX_LISTED = 16
MAX_KNOWN = 400
MAX_LETTERS = 40

FOREIGN_TERMS = {
    "momentum": (
        "decay",
        "decay is the weight of the old statistics: PyTorch's momentum of 0.1 and Paddle's or Flax's of 0.9 are both decay: 0.9",
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
"""What frameworks and papers call things, what they are called here, and where that is not all, what else to know."""


def suggest(wrong: str, known: Iterable[str], given: Collection[str] = ()) -> str:
    """What to say of an unknown name: the nearest known one; or all of them if they are few. ``given`` are there already."""
    names = list(known)
    near = nearest(wrong, names, given)
    if near is not None:
        also = FOREIGN_TERMS.get(wrong.lower(), ("", ""))[1]
        return f"did you mean {near!r}?" + (f" {also}" if also else "")
    return f"known: {', '.join(names[:MAX_LISTED])}{', ...' if names[MAX_LISTED:] else ''}" if names else ""


def nearest(wrong: str, known: Iterable[str], given: Collection[str] = ()) -> str | None:
    """The known name that one was most likely meant to be.

    That with the fewest letters wrong, missing, too many or swapped, one not ``given`` before one that is; else one that is not,
    and that begins it, or that it begins.
    """
    names = list(known)[:MAX_KNOWN]
    if len(wrong) > MAX_LETTERS:
        return None
    theirs = FOREIGN_TERMS.get(wrong.lower())
    if theirs and theirs[0] in names:
        return theirs[0]
    most = max(1, len(wrong) // 3)
    close = [name for name in names if abs(len(name) - len(wrong)) <= most]
    distances = [(edit_distance(wrong, name), name) for name in close]
    least = min((distance for distance, _ in distances), default=most + 1)
    nearer = [name for distance, name in distances if distance == least < len(name)]
    if least <= most and nearer:
        # Of several, the first that shares most letters, is not there yet, and has the nearest number: layer4 for layer5.
        return max(
            nearer,
            key=lambda name: ((Counter(wrong) & Counter(name)).total(), name not in given, -_apart(wrong, name)),
        )
    others = [name for name in names if name not in given]
    begun = [name for name in others if len(name) > 2 and wrong.startswith(name)]
    return max(begun, key=len) if begun else _alike(wrong, others)


@lru_cache(maxsize=2**15)  # as many as a spec may have names, since a block is walked as often as it is used
def one_edit_away(wrong: str, known: tuple[str, ...]) -> str:
    """The first of some names that is one letter from another; empty if none is.

    >>> one_edit_away("bloc", ("op", "block"))
    'block'
    """
    near = (name for name in known if abs(len(name) - len(wrong)) <= 1)
    return next((name for name in near if edit_distance(wrong, name) == 1), "")


def edit_distance(left: str, right: str) -> int:
    """How many letters to change, add, take away or swap with the next, to make one word another. Case counts for nothing.

    >>> edit_distance("dpeth", "depth"), edit_distance("ou", "out"), edit_distance("Conv", "conv")
    (1, 1, 0)
    """
    left, right = left.lower(), right.lower()
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j - 1] + 1, before[j] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _apart(left: str, right: str) -> int:
    """How far apart the numbers are that two words end in; 0 if either ends in none."""
    first, second = (word[len(word.rstrip("0123456789")) :] for word in (left, right))
    return abs(int(first) - int(second)) if first and second else 0


def _alike(wrong: str, names: list[str]) -> str | None:
    import difflib  # only where something is wrong

    short = [name for name in names if len(name) <= 2 * MAX_LETTERS]
    near = difflib.get_close_matches(wrong, short, n=1)
    begins = [name for name in short if len(wrong) > 1 and name.startswith(wrong)]
    return next(iter([*near, *begins]), None)
