"""What docstrings say of operations and their arguments."""

from __future__ import annotations

import re
from inspect import cleandoc


def first_sentence(kind: type) -> str:
    """The first sentence of a class's docstring."""
    return cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def attribute_descriptions(kind: type) -> dict[str, str]:
    """What a class's docstring says under ``Attributes:``, by name.

    >>> from resnet_spec.ops import Gelu
    >>> attribute_descriptions(Gelu)
    {'approximate': 'Whether the formula with tanh is used in its place.'}
    """
    _, _, listed = cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", listed, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}
