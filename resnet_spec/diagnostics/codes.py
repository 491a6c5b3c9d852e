"""Meanings of the codes of problems, read from ``codes.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of problem.

    Attributes:
        code: The code, such as "RS101".
        title: What the problem is, in a few words.
        explanation: What the code means, and what to do.
        wrong: A spec that has the problem, and no other.
        right: The same spec, corrected.
    """

    code: str
    title: str
    explanation: str
    wrong: str
    right: str


@cache
def codes() -> dict[str, Code]:
    """Return every code with its meaning.

    >>> codes()["RS102"].title
    'duplicate key'
    """
    text = (files("resnet_spec.diagnostics") / "codes.yaml").read_text(encoding="utf-8")
    return {code: Code(code, **meaning) for code, meaning in yaml.safe_load(text).items()}
