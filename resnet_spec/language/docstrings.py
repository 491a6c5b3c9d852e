"""Read descriptions of classes and their attributes from docstrings."""

from __future__ import annotations

import re
from inspect import cleandoc


def first_sentence(kind: type) -> str:
    """Return the first paragraph of a class's docstring, on one line."""
    return cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def attribute_descriptions(kind: type) -> dict[str, str]:
    """Return the descriptions under ``Attributes:`` in a class's docstring, by name.

    >>> from resnet_spec.ops import Gelu
    >>> attribute_descriptions(Gelu)
    {'approximate': 'Whether to compute the approximation by tanh.'}
    """
    _, _, listed = cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", listed, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}
