"""Words that look like numbers, or like true and false, and are none here: what YAML would have made of them."""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_LENGTH = 100
A_TEXT = "a text"

Reading = Callable[[str], object]


def explain_pitfall(word: str, fits: str = "") -> str:
    """What YAML would have made of a word, and what to write; empty if there is nothing to say. ``fits`` matches what may stand there.

    >>> explain_pitfall("010", r"-?[0-9]+")
    'YAML 1.1 makes 8 of it, YAML 1.2 makes 10; write 8 or 10'
    >>> explain_pitfall("no", "true|false")
    'YAML 1.1 makes false of it, YAML 1.2 makes a text; write false'
    """
    if len(word) > MAX_LENGTH:
        return ""
    for pattern, old, new in _READINGS:
        if re.fullmatch(pattern, word):
            made = [str(old(word)), str(new(word))]
            differ = made[0] != made[1]
            says = (
                f"YAML 1.1 makes {made[0]} of it, YAML 1.2 makes {made[1]}" if differ else f"YAML makes {made[0]} of it"
            )
            usable = [value for value in dict.fromkeys(made) if fits and re.fullmatch(fits, value)]
            return f"{says}; write {' or '.join(usable)}" if usable else says
    return ""


def _bare(word: str) -> str:
    return word.replace("_", "")


def _base_60(word: str) -> float:
    value = 0.0
    for digits in word.lstrip("+-").split(":"):
        value = 60 * value + float(digits)
    value = -value if word.startswith("-") else value
    return int(value) if value.is_integer() else value


_READINGS: tuple[tuple[str, Reading, Reading], ...] = (
    (r"[-+]?0[0-7]+", lambda word: int(word, 8), lambda word: int(word)),
    (r"[-+]?0[0-7_]*_[0-7_]*", lambda word: int(_bare(word), 8), lambda word: A_TEXT),
    (r"[-+]?[1-9][0-9_]*_[0-9_]*(\.[0-9_]*)?", _bare, lambda word: A_TEXT),
    (r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?", _base_60, lambda word: A_TEXT),
    (r"0x[0-9a-fA-F]+", lambda word: int(word, 16), lambda word: int(word, 16)),
    (r"0b[01]+", lambda word: int(word, 2), lambda word: A_TEXT),
    (r"0o[0-7]+", lambda word: A_TEXT, lambda word: int(word, 8)),
    (r"\+([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", lambda word: word[1:], lambda word: word[1:]),
    (r"(?i)yes|on|y", lambda word: "true", lambda word: A_TEXT),
    (r"(?i)no|off|n", lambda word: "false", lambda word: A_TEXT),
)
"""How a word looks, what YAML 1.1 makes of it, and what YAML 1.2."""
