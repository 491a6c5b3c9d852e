"""A first file of one's own: a spec that extends another, with what that one says beside it as comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.syntax.nodes import List, Mapping, Node, Scalar

HEAD = """\
# {name}: what differs from {like}. Look at it with: resnet-spec show {file}
# An editor completes and explains what you type once it knows the schema: resnet-spec schema > schema.json, and a line here that says
# yaml-language-server: $schema=schema.json, after a # and a space.
name: {quoted}
extends: {extends}
"""

TAKES = """\
takes: {takes}  # what a caller may set: build("{file}", {example}=...)
"""

REST = """\

# Below stands what {like} says, for you to change. Take the "# " away from the lines that are to differ, and from the heading above
# them, and leave out of them what is to stay as it is: {{depth: 4}} alone changes a stage's depth. null takes a layer or a stage away.
"""

SHOWN = ("input", "layers", "stem", "stages", "head")


def render_template(file: str, name: str, like: str, extends: str, base: Mapping) -> str:
    """The text of a spec for a file, of a name, that extends what ``base`` holds: as it stands, the same network."""
    parts = {key.text: value for key, value in base.items}
    text = HEAD.format(name=name, like=like, file=file, quoted=_text(name), extends=_text(extends))
    takes = parts.get("takes")
    if isinstance(takes, Mapping) and takes.items:
        text += TAKES.format(takes=_flow(takes), file=file, example=takes.items[0][0].text)
    shown = [line for key in SHOWN for line in _lines(key, parts.get(key))]
    return text + REST.format(like=like) + "".join(f"# {line}\n" for line in shown)


def _lines(key: str, node: Node | None) -> Iterator[str]:
    match node:
        case _ if key == "layers":
            given = {name.text: _flow(value) for name, value in node.items} if isinstance(node, Mapping) else {}
            usual = {name: PREDEFINED[name] for name in ("norm", "act")}  # what most would change, and most blocks use
            entries = ", ".join(f"{name}: {value}" for name, value in (usual | given).items())
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
    """A node in one line."""
    match node:
        case Scalar(text=text, plain=plain):
            return text if plain and re.fullmatch(r"[\w.+-]+", text) else json.dumps(text, ensure_ascii=False)
        case List(items=items):
            return f"[{', '.join(map(_flow, items))}]"
        case Mapping(items=items):
            return "{" + ", ".join(f"{_text(key.text)}: {_flow(value)}" for key, value in items) + "}"


def _text(text: str) -> str:
    """A text that no reader of YAML takes for anything else."""
    return text if re.fullmatch(r"[A-Za-z_][\w./-]*", text) else json.dumps(text, ensure_ascii=False)
