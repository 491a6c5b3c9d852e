"""What the codes of problems mean, from ``codes.yaml``: a title, an explanation, a spec that gives the problem, and that mended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of problem."""

    code: str
    title: str
    says: str
    wrong: str
    right: str


@cache
def codes() -> dict[str, Code]:
    """Every code and what it means.

    >>> codes()["RS102"].title
    'a key is given twice'
    """
    text = (files("resnet_spec.diagnostics") / "codes.yaml").read_text(encoding="utf-8")
    return {code: Code(code, **meaning) for code, meaning in yaml.safe_load(text).items()}
