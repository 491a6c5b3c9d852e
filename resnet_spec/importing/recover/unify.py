"""Find what several terms have in common: a template, and an argument for each place at which they differ."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

from resnet_spec import ops
from resnet_spec.importing.recover.terms import (
    IN,
    BlockCall,
    Body,
    Branching,
    Collecting,
    OpCall,
    Param,
    PerBlock,
    Repeats,
    Sequence,
    has_weights,
)
from resnet_spec.language.spec import Role
from resnet_spec.ops import OPS

MISSING = object()
"""The value of an argument in a block that does not use it."""

ACTIVATIONS = {name for name, kind in OPS.items() if kind.__module__ == ops.Relu.__module__}

_WIDTHS = ("width", "wide", "inner", "middle", "narrow")


def skeleton(term: Any) -> Any:
    """Return what terms must share to be one template: all but values of arguments and names without weights."""
    match term:
        case OpCall(op):
            return "activation" if op in ACTIVATIONS and not term.has_weights else op
        case BlockCall(block, _, project):
            return "block", block, project
        case Repeats(block, _, _, numbering, project):
            return "repeats", block, numbering, project
        case Sequence(items):
            return tuple((name if has_weights(inner) else "", skeleton(inner)) for name, inner in items)
        case Branching(combine, branches, split, cascade, resize):
            return combine, bool(split), cascade, resize, tuple(map(skeleton, branches))
        case Collecting(items):
            return "collect", skeleton(items)
        case Param(name):
            return "param", name
        case _:
            return term


class Unifier:
    """Unifies the bodies of several instances of a block, and names the arguments in which they differ.

    ``inputs`` and ``outputs`` are the instances' numbers of channels.
    """

    def __init__(self, inputs: Items[int], outputs: Items[int], combine: str) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.combine = combine
        self.arguments: dict[str, list[Any]] = {}

    def body(self, bodies: Items[Body], roles: Items[Role]) -> Body:
        """Return the template of bodies; a section that some of them lack is unified from the others."""
        first = next((body for body in bodies if body.section("shortcut").items), bodies[0])
        sections: list[tuple[Role, Sequence]] = []
        unified: dict[Role, Sequence] = {}
        for role in sorted(roles, key=lambda role: role == "shortcut"):
            rows = [body.section(role) if body.section(role).items else None for body in bodies]
            if any(row is not None for row in rows):
                unified[role] = self.term(rows)
        sections = [(role, unified[role]) for role in roles if role in unified]
        return Body(first.combine, tuple(sections), first.reads, first.project)

    def term(self, terms: Items[Any], name: str = "") -> Any:
        """Return the template of terms, of which those that are None do not matter."""
        present = [term for term in terms if term is not None]
        first = present[0]
        names = {tuple(key for key, _ in term.items) if isinstance(term, Sequence) else term for term in present}
        if any(skeleton(term) != skeleton(first) for term in present[1:]) and not (
            isinstance(first, Sequence) and len(names) == 1
        ):
            return self.value(terms, name)
        match first:
            case OpCall() if any(term.op != first.op for term in present):
                return self.value(terms, "act" if first.op in ACTIVATIONS else name)
            case OpCall(op, arguments, weights):
                return OpCall(op, self.values(terms, dict(arguments), name, op), weights)
            case BlockCall(block, _, project):
                return BlockCall(block, self.values(terms, _names(present), name), project)
            case Repeats(block, _, _, numbering, project):
                depth = self.value([None if term is None else term.depth for term in terms], "depth")
                return Repeats(block, depth, self.values(terms, _names(present), name), numbering, project)
            case Sequence(items):
                columns = [
                    [None if term is None else term.items[index][1] for term in terms] for index in range(len(items))
                ]
                return Sequence(
                    tuple((key, self.term(column, key)) for (key, _), column in zip(items, columns, strict=True))
                )
            case Branching(combine, branches, split, cascade, resize):
                rows = tuple(
                    self.term([None if term is None else term.branches[index] for term in terms])
                    for index in range(len(branches))
                )
                sizes = [None if term is None else term.split for term in terms]
                if isinstance(split, tuple) and len({size for size in sizes if size}) > 1:
                    split = tuple(
                        self.value([None if size is None else size[index] for size in sizes], "piece")
                        for index in range(len(split))
                    )
                return Branching(combine, rows, split, cascade, resize)
            case Collecting():
                return Collecting(self.term([None if term is None else term.items for term in terms]))
            case _:
                return self.value(terms, name)

    def values(self, terms: Items[Any], names: dict[str, Any], layer: str, op: str = "") -> tuple[tuple[str, Any], ...]:
        found = []
        for name in names:
            column = [None if term is None else dict(term.arguments).get(name, MISSING) for term in terms]
            found.append((name, self.value(column, name, layer, op)))
        return tuple((name, value) for name, value in found if value is not MISSING)

    def value(self, column: Items[Any], hint: str, layer: str = "", op: str = "") -> Any:
        """Return the value at a place: a literal, or an argument that has these values."""
        known = [value for value in column if value is not None]
        if (rows := _per_block(column, hint)) is not None:
            return PerBlock(tuple(self.value(row, hint, layer, op) for row in rows))
        if len(known) < len(column):  # in a shortcut, which not all blocks have
            shared = self.arguments.get(hint)
            if shared is not None and _agrees(column, shared):
                return Param(hint)
        if all(_same(value, known[0]) for value in known):
            return known[0]
        if any(value is MISSING for value in known):
            column = [value if value is not MISSING else _default(hint) for value in column]
        if (
            hint in ("out", "groups", "wide", "width")
            and _agrees(column, self.inputs)
            and (self.combine == "multiply" or not _agrees(column, self.outputs))
        ):
            return IN
        for name, values in self.arguments.items():
            if _agrees(column, values) and _is_like(name, hint):
                self.arguments[name] = [a if a is not None else b for a, b in zip(values, column, strict=True)]
                return Param(name)
        name = self._name(column, hint, layer, op)
        self.arguments[name] = list(column)
        return Param(name)

    def _name(self, column: Items[Any], hint: str, layer: str, op: str) -> str:
        if hint == "out":
            names = (
                ["out"] if _agrees(column, self.outputs) else ["reduced"] if self.combine == "multiply" else [*_WIDTHS]
            )
        else:
            names = [hint]
        names += [f"{layer}_{hint}".replace(".", "_"), *(f"{hint}{number}" for number in range(2, 100))]
        return next(name for name in names if name not in self.arguments and name.isidentifier())


def _per_block(column: Items[Any], hint: str) -> list[list[Any]] | None:
    """Return the values for each of several repeated blocks, where they differ and some are written block by block.

    A single stride is that of the first block.
    """
    lists = [value for value in column if isinstance(value, PerBlock)]
    depths = {len(value.values) for value in lists}
    others = [value for value in column if value is not None and not isinstance(value, PerBlock)]
    if len(depths) != 1 or MISSING in others or (not others and all(value == lists[0] for value in lists)):
        return None
    (depth,) = depths
    spread = [_spread(value, depth, hint == "stride") for value in column]
    return [[None if value is None else value[index] for value in spread] for index in range(depth)]


def _spread(value: Any, depth: int, is_stride: bool) -> tuple[Any, ...] | None:
    if value is None or isinstance(value, PerBlock):
        return None if value is None else value.values
    return (value, *[1 if is_stride else value] * (depth - 1))


def _names(calls: Items[Any]) -> dict[str, Any]:
    return {name: None for call in calls for name, _ in call.arguments}


def _default(hint: str) -> Any:
    return {"stride": 1, "groups": 1, "dilation": 1, "kernel": 1, "padding": 0, "bias": False, "depth": 1}.get(
        hint, "none"
    )


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _agrees(column: Items[Any], values: Items[Any]) -> bool:
    pairs = list(zip(column, values, strict=True))
    return any(a is not None and b is not None for a, b in pairs) and all(
        a is None or b is None or _same(a, b) for a, b in pairs
    )


def _is_like(name: str, hint: str) -> bool:
    """Return whether an argument may stand at a place, so that a kernel is not called a number of channels."""
    kinds = [{"stride"}, {"kernel"}, {"dilation"}, {"bias"}, {"rate"}, {"depth"}, {"act"}, {"padding"}]
    return all(
        (name.rstrip("0123456789") in kind or name.endswith(tuple(f"_{item}" for item in kind))) == (hint in kind)
        for kind in kinds
    )


def argument_default(name: str, values: Items[Any]) -> Any:
    """Return the default of an argument that most blocks leave at its usual value; MISSING if it is required."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) and all(
        has_weights(value) and not isinstance(value, int | float | str | tuple) for value in known
    ):
        return "none"  # a layer that some of the blocks lack
    base = name.rpartition("_")[2].rstrip("0123456789") or name
    usual = _default(base)
    if base == "stride":
        return 1
    if base in ("kernel", "act"):
        return max(known, key=known.count)
    if usual != "none" and any(_same(value, usual) for value in known):
        return usual
    if any(_same(value, "none") for value in known):
        return "none"
    return MISSING
