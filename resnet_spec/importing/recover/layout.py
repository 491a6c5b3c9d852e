"""Lay out YAML values as text: a line for each layer, and what fits in a line in one."""

from __future__ import annotations

import re
from typing import Any

import yaml

WIDTH = 120

_SECTIONS = {"blocks", "stem", "stages", "head", "layers"}


def lay_out(document: dict[str, Any]) -> str:
    """Return a spec's document as text."""
    lines: list[str] = []
    for key, value in document.items():
        lines += _entry(key, value, 0)
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, indent: int) -> list[str]:
    """Return the lines of a mapping's entry."""
    margin, flow = " " * indent, _flow(value)
    if not isinstance(value, dict | list) or not value:
        return [f"{margin}{_scalar(key)}: {flow}"]
    fits = indent + len(_scalar(key)) + 2 + len(flow) <= WIDTH
    if fits and _is_one_line(key, value, indent):
        return [f"{margin}{_scalar(key)}: {flow}"]
    is_section = key in _SECTIONS and indent == 0
    if isinstance(value, dict) and {"op", "block"} & set(value) and not is_section:
        return [f"{margin}{_scalar(key)}:", *_wrapped(flow, indent + 2)]
    return [f"{margin}{_scalar(key)}:", *_block(value, indent + 2)]


def _wrapped(flow: str, indent: int) -> list[str]:
    """Return the lines of a flow value that is too long for its key's line, broken behind commas."""
    lines, margin = [""], " " * indent
    for piece in re.split(r"(?<=,) ", flow):
        if lines[-1] and len(margin) + len(lines[-1]) + len(piece) + 1 > WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {piece}".lstrip()
    return [margin + lines[0], *(f"{margin} {line}" for line in lines[1:])]


def _block(value: Any, indent: int) -> list[str]:
    margin = " " * indent
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in _entry(key, inner, indent)]
    lines: list[str] = []
    for item in value:
        flow = _flow(item)
        if indent + 2 + len(flow) <= WIDTH or not isinstance(item, dict | list):
            lines.append(f"{margin}- {flow}")
            continue
        alone = item[0] if isinstance(item, list) and len(item) == 1 else item
        is_call = isinstance(alone, dict) and {"op", "block"} & set(alone)
        first, *rest = _wrapped(flow, indent + 2) if is_call else _block(item, indent + 2)
        lines += [f"{margin}- {first.lstrip()}", *rest]
    return lines


def _is_one_line(key: str, value: Any, indent: int) -> bool:
    """Return whether a value reads well in one line: a call, a list or a few words, but not the layers of a section."""
    if key in _SECTIONS and indent == 0:
        return False
    if key in ("branch", "before", "after", "shortcut"):
        return len(value) <= 2 and len(_flow(value)) <= 70
    if isinstance(value, list) and not all(isinstance(item, int | float | str) for item in value):
        return len(value) <= 6
    is_call = isinstance(value, dict) and bool({"op", "block"} & set(value))
    return (
        is_call
        or key in ("takes", "input", "options", "preprocess", "first", "last", "norm", "act")
        or len(_flow(value)) <= 70
        or (isinstance(value, list))
    )


def _flow(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_scalar(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case _:
            return _scalar(value)


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            text = repr(value)
            return re.sub(r"e-0*", "e-", text) if "e" in text else text
        case int():
            return str(value)
        case _:
            text = str(value)
            is_plain = re.fullmatch(r"[A-Za-z_][\w./-]*|\d+(\.\w+)*[\w.]*", text) is not None and yaml.safe_load(
                text
            ) in (text, _number(text))
            return text if is_plain else yaml.safe_dump(text, default_style='"', width=10**6).strip()


def _number(text: str) -> object:
    return int(text) if text.isdecimal() else text
