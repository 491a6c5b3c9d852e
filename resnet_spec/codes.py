"""What the codes of problems mean, from ``codes.yaml``: a title, an explanation, a spec that gives the problem, and that mended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from resnet_spec.nodes import Mapping, Node, Scalar, parse
from resnet_spec.source import Source


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
    file = files("resnet_spec") / "codes.yaml"
    root = parse(Source(str(file), file.read_text(encoding="utf-8")))
    return {code: Code(code, **_texts(node)) for code, node in _entries(root)}


def _texts(node: Node) -> dict[str, str]:
    return {key: value.text for key, value in _entries(node) if isinstance(value, Scalar)}


def _entries(node: Node) -> list[tuple[str, Node]]:
    assert isinstance(node, Mapping)  # a test reads the file
    return [(key.text, value) for key, value in node.items]
