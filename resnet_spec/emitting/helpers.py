"""Copy those classes and functions that a module needs from the source of the helpers of a framework."""

from __future__ import annotations

import ast
from collections.abc import Mapping


def used_helpers(pieces: Mapping[str, str], body: str) -> list[str]:
    """Return the sources of the helpers that a module's text names, and of those that they need, in their order."""
    needed: set[str] = set()
    waiting = [body]
    while waiting:
        names = {node.id for node in ast.walk(ast.parse(waiting.pop())) if isinstance(node, ast.Name)}
        found = [name for name in pieces if name in names - needed]
        needed |= set(found)
        waiting += [pieces[name] for name in found]
    used = [piece for name, piece in pieces.items() if name in needed]
    blocks: list[str] = []
    for piece in used:
        if blocks and is_assignment(blocks[-1]) and is_assignment(piece):
            blocks[-1] += f"\n{piece}"
        else:
            blocks.append(piece)
    return blocks


def is_assignment(piece: str) -> bool:
    """Return whether the source of a helper is that of a constant."""
    return not piece.startswith(("class ", "def ", "@"))


def split_helpers(source: str) -> dict[str, str]:
    """Return the source of each class, function and constant of a module by its name, with its decorators."""
    lines = source.splitlines()
    pieces: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            pieces[node.name] = "\n".join(lines[start - 1 : node.end_lineno])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            pieces[node.targets[0].id] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return pieces
