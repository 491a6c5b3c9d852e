"""Scalars that YAML reads differently from specs, such as 010, 1_000, 3:30 and no."""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_LENGTH = 100
"""Longest scalar that is explained."""
_TEXT = "text"

Reading = Callable[[str], object]


def explain_pitfall(word: str, fits: str = "") -> str:
    """Return how YAML reads a plain scalar and what to write instead, or "" if there is nothing to explain.

    Only readings that match the regular expression ``fits`` are suggested.

    >>> explain_pitfall("010", r"-?[0-9]+")
    'YAML 1.1 reads it as 8, YAML 1.2 as 10; write 8 or 10'
    >>> explain_pitfall("no", "true|false")
    'YAML 1.1 reads it as false, YAML 1.2 as text; write false'
    """
    if len(word) > MAX_LENGTH:
        return ""
    for pattern, yaml_1_1, yaml_1_2 in _READINGS:
        if re.fullmatch(pattern, word):
            first, second = str(yaml_1_1(word)), str(yaml_1_2(word))
            differ = first != second
            reading = f"YAML 1.1 reads it as {first}, YAML 1.2 as {second}" if differ else f"YAML reads it as {first}"
            usable = [value for value in dict.fromkeys((first, second)) if fits and re.fullmatch(fits, value)]
            return f"{reading}; write {' or '.join(usable)}" if usable else reading
    return ""


def _without_underscores(word: str) -> str:
    return word.replace("_", "")


def _parse_base_60(word: str) -> float:
    value = 0.0
    for digits in word.lstrip("+-").split(":"):
        value = 60 * value + float(digits)
    value = -value if word.startswith("-") else value
    return int(value) if value.is_integer() else value


_READINGS: tuple[tuple[str, Reading, Reading], ...] = (
    (r"[-+]?0[0-7]+", lambda word: int(word, 8), lambda word: int(word)),
    (r"[-+]?0[0-7_]*_[0-7_]*", lambda word: int(_without_underscores(word), 8), lambda word: _TEXT),
    (r"[-+]?[1-9][0-9_]*_[0-9_]*(\.[0-9_]*)?", _without_underscores, lambda word: _TEXT),
    (r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?", _parse_base_60, lambda word: _TEXT),
    (r"0x[0-9a-fA-F]+", lambda word: int(word, 16), lambda word: int(word, 16)),
    (r"0b[01]+", lambda word: int(word, 2), lambda word: _TEXT),
    (r"0o[0-7]+", lambda word: _TEXT, lambda word: int(word, 8)),
    (r"\+([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", lambda word: word[1:], lambda word: word[1:]),
    (r"(?i)yes|on|y", lambda word: "true", lambda word: _TEXT),
    (r"(?i)no|off|n", lambda word: "false", lambda word: _TEXT),
)
"""Patterns of scalars, each with how YAML 1.1 and YAML 1.2 read them."""
