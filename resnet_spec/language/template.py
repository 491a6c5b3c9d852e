"""The file that ``resnet-spec new`` writes: a spec that extends another, with the lines of that one as comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.syntax.nodes import List, Mapping, Node, Scalar

HEAD = """\
# {name}: a variant of {like}. Show its layers with: resnet-spec show {file}
# For completion and explanations in an editor, write the schema with: resnet-spec schema > schema.json
# Then add a comment line here with this text: yaml-language-server: $schema=schema.json
name: {quoted}
extends: {extends}
"""

TAKES = """\
takes: {takes}  # arguments that callers can set: build("{file}", {example}=...)
"""

REST = """\

# The lines below come from {like}. To change a layer or a stage, uncomment its line and the heading above it,
# and edit it. Keys that you leave out keep their values: {{depth: 4}} changes the depth of a stage and nothing else.
# To remove a layer or a stage, set it to null.
"""

COMMENTED_KEYS = ("input", "layers", "stem", "stages", "head")


def render_template(file: str, name: str, like: str, extends: str, base: Mapping) -> str:
    """Return the text of a spec that extends another; until it is edited, it is the same network.

    Args:
        file: The path of the file, which its comments mention.
        name: The name of the new network.
        like: The network to extend, as the user named it.
        extends: The value of ``extends`` that refers to it from the new file.
        base: The document of that network, with its own ``extends`` resolved.
    """
    parts = {key.text: value for key, value in base.items}
    text = HEAD.format(name=name, like=like, file=file, quoted=_text(name), extends=_text(extends))
    takes = parts.get("takes")
    if isinstance(takes, Mapping) and takes.items:
        text += TAKES.format(takes=_flow(takes), file=file, example=takes.items[0][0].text)
    lines = [line for key in COMMENTED_KEYS for line in _lines(key, parts.get(key))]
    return text + REST.format(like=like) + "".join(f"# {line}\n" for line in lines)


def _lines(key: str, node: Node | None) -> Iterator[str]:
    """Yield the lines of a key: one for each entry of a mapping."""
    match node:
        case _ if key == "layers":
            defined = {name.text: _flow(value) for name, value in node.items} if isinstance(node, Mapping) else {}
            predefined = {name: PREDEFINED[name] for name in ("norm", "act")}  # the names that users change most often
            entries = ", ".join(f"{name}: {value}" for name, value in (predefined | defined).items())
            yield f"layers: {{{entries}}}"
        case Mapping(items=items) if key != "input":
            yield f"{key}:"
            for name, value in items:
                yield f"  {_text(name.text)}: {_flow(value)}"
        case None:
            return
        case _:
            yield f"{key}: {_flow(node)}"


def _flow(node: Node) -> str:
    """Return a node in YAML's flow style, on one line."""
    match node:
        case Scalar(text=text, plain=plain):
            return text if plain and re.fullmatch(r"[\w.+-]+", text) else json.dumps(text, ensure_ascii=False)
        case List(items=items):
            return f"[{', '.join(map(_flow, items))}]"
        case Mapping(items=items):
            return "{" + ", ".join(f"{_text(key.text)}: {_flow(value)}" for key, value in items) + "}"


def _text(text: str) -> str:
    """Return a text as a YAML scalar, quoted if a YAML reader could take it for anything but text."""
    return text if re.fullmatch(r"[A-Za-z_][\w./-]*", text) else json.dumps(text, ensure_ascii=False)
