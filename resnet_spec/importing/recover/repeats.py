"""Calls of blocks in a row as one repeat, with one value of an argument for all blocks or one for each."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

from resnet_spec.importing.recover.terms import BlockCall, PerBlock, Repeats

MAX_KINDS = 2
"""Of how many blocks a repeat may be, so that it still reads as one."""


def repeat_calls(calls: Items[BlockCall], numbering: str = "{index}") -> Repeats:
    """Return calls of blocks in a row as a repeat."""
    names = [call.block for call in calls]
    block = names[0] if len(set(names)) == 1 else PerBlock(tuple(names))
    return Repeats(block, len(calls), _arguments(calls), numbering, project_of(calls) or "")


def _arguments(calls: Items[BlockCall]) -> tuple[tuple[str, Any], ...]:
    found: list[tuple[str, Any]] = []
    for name in dict.fromkeys(name for call in calls for name, _ in call.arguments):
        values = _filled([dict(call.arguments).get(name, 1 if name == "stride" else None) for call in calls])
        is_first_stride = name == "stride" and all(value == 1 for value in values[1:])
        if is_first_stride or (name != "stride" and len(set(map(repr, values))) == 1):
            found.append((name, values[0]))
        else:
            found.append((name, PerBlock(values)))
    return tuple(found)


def _filled(values: list[Any]) -> tuple[Any, ...]:
    """Return an argument's values, with those of neighbours for blocks that do not take it."""
    known = [index for index, value in enumerate(values) if value is not None]
    return tuple(values[min(known, key=lambda place: abs(place - index))] for index in range(len(values)))


def project_of(calls: Items[BlockCall]) -> str | None:
    """Return what ``project`` says of blocks in a row; None if one word can't."""
    projects = [call.project for call in calls]
    if not any(projects):
        return ""
    if all(projects):
        return "always"
    return "first" if not any(projects[1:]) else None


def is_row(calls: Items[BlockCall]) -> bool:
    """Return whether calls of blocks may be one repeat: they are of one block, or of two, and differ in few places."""
    names = [call.block for call in calls]
    if len(set(names)) > MAX_KINDS or project_of(calls) is None:
        return False
    keys = {(call.block, tuple(name for name, _ in call.arguments)) for call in calls}
    return len(keys) == len(set(names)) and (len(set(names)) == 1 or is_odd_one_out(names) or len(names) > MAX_KINDS)


def is_odd_one_out(names: Items[Any]) -> bool:
    """Return whether the first or the last of some names differs from all others."""
    return len(set(names[1:])) == 1 or len(set(names[:-1])) == 1
