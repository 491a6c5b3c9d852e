"""Turn parts into terms from the leaves up; equal blocks become calls of one block, and calls in a row repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from resnet_spec.importing.recover.bundled_blocks import Words, find_bundled, literal, with_before
from resnet_spec.importing.recover.repeats import is_row, repeat_calls
from resnet_spec.importing.recover.terms import (
    BlockCall,
    Body,
    Branching,
    Collecting,
    OpCall,
    Repeats,
    Sequence,
    Term,
    op_term,
    subterms,
)
from resnet_spec.importing.recover.unify import MISSING, Unifier, argument_default, skeleton
from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.language.scalars import LAYER_KEYS
from resnet_spec.language.spec import Role
from resnet_spec.library import bundled
from resnet_spec.library.load import bundled_block
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import walk
from resnet_spec.ops import OPS, op_name
from resnet_spec.syntax.nodes import Scalar

MIN_CHAINS = 3
"""From how many equal chains on they become a block of their own."""

ROLES: tuple[Role, ...] = ("before", "branch", "shortcut", "after")
_GENERIC = {"block", "net", "network", "sequential", "module_list", "module", "module_dict", "chain", "residual"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block that the spec defines: its body, and its arguments with their defaults; MISSING if one is required."""

    body: Body
    takes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Instance:
    part: Chain | Residual
    body: Body

    @property
    def projects(self) -> str:
        """What ``project`` must say for this instance, unless it is as by default."""
        if not isinstance(self.part, Residual) or self.part.combine != "add" or not self.part.shortcut:
            return ""
        return "" if _is_changed(self.part) else "always"


class Families:
    """The terms of parts, and the blocks that they need. ``classes`` names the classes of modules, by path."""

    def __init__(
        self, words: Words, classes: Mapping[str, str], uses_bundled: bool = True, prefers_same: bool = False
    ) -> None:
        self.words = words
        self.classes = classes
        self.uses_bundled = uses_bundled
        self.prefers_same = prefers_same
        self.blocks: dict[str, Block] = {}
        self.calls: dict[str, Term] = {}

    def row(self, parts: Row, holder: str) -> Sequence:
        """Return the term of parts that run one after another, named relative to what holds them."""
        levels: dict[int, list[Chain | Residual]] = {}
        branches = {_signature(part) for part in walk(parts) if isinstance(part, Residual)}
        for part in parts:
            _level(part, levels, branches)
        for level in sorted(levels):
            self._resolve([_Instance(part, self._body(part)) for part in levels[level]])
        return self._sequence(parts, holder)

    # -- terms ---------------------------------------------------------------------------------------------------

    def _sequence(self, parts: Row, holder: str) -> Sequence:
        prefix = f"{holder}." if holder else ""
        return Sequence(tuple((part.path.removeprefix(prefix), self._term(part, holder)) for part in parts))

    def _term(self, part: Part, holder: str) -> Term:
        if part.path in self.calls:
            return self.calls[part.path]
        match part:
            case Leaf():
                return op_term(part, self.prefers_same)
            case Parallel() if part.collect:
                return Collecting(
                    Sequence(tuple(item for row in part.branches[1:] for item in self._sequence(row, holder).items))
                )
            case Parallel():
                rows = tuple(self._sequence(row, holder) for row in part.branches)
                return Branching(part.combine, rows, part.split, part.cascade, part.resize)
            case Chain():
                return self._sequence(part.parts, part.path)
            case _:
                raise AssertionError(f"{part.path} is a block, and should be called")

    def _body(self, part: Chain | Residual) -> Body:
        if isinstance(part, Chain):
            return Body("none", (("branch", self._sequence(part.parts, part.path)),))
        roles = [*part.order, *(role for role in ROLES if part.section(role) and role not in part.order)]
        sections = tuple((role, self._sequence(part.section(role), part.path)) for role in roles)
        is_default = part.reads == ("before" if part.before and part.shortcut else "input")
        return Body(part.combine, sections, "" if is_default else part.reads)

    # -- families ------------------------------------------------------------------------------------------------

    def _resolve(self, instances: list[_Instance]) -> None:
        groups: dict[Any, list[_Instance]] = {}
        for instance in instances:
            groups.setdefault(_key(instance), []).append(instance)
        for key, chains in list(groups.items()):
            if key[0] == "none":
                wanted = [other for other in groups if other[0] == "add" and other[1:] == key[1:]]
                if (
                    wanted
                    and all(_is_changed(chain.part) for chain in chains)
                    and not _has_shortcuts(groups[wanted[0]])
                ):
                    groups[wanted[0]] += groups.pop(key)
        for group in groups.values():
            self._family(group)

    def _family(self, group: list[_Instance]) -> None:
        is_chain = all(isinstance(instance.part, Chain) for instance in group)
        rows = [_row_of_blocks(instance.body) for instance in group] if is_chain else [None]
        if all(rows):
            self.calls |= {
                instance.part.path: row for instance, row in zip(group, rows, strict=True) if row is not None
            }
            return
        if is_chain and any(isinstance(term, Repeats) for instance in group for term in subterms(instance.body)):
            return
        if self.uses_bundled and self._bundled(group):
            return
        if is_chain and (len(group) < MIN_CHAINS or not _is_worth_a_block(group[0].body)):
            return
        for same in _with_same_shortcuts(group):
            self._defined(same)

    def _bundled(self, group: list[_Instance]) -> bool:
        """Resolve a family as calls of a bundled block, if one fits all of it."""
        found: list[dict[str, tuple[BlockCall, frozenset[str]]]] = []
        for instance in group:
            changed = _is_changed(instance.part)
            calls = find_bundled(instance.body, instance.part.input_shape[0], self.words, changed)
            found.append({call.block: (call, free) for call, free in calls})
            if not found[-1]:
                return False
        names = [name for name in found[0] if all(name in calls for calls in found)]
        if not names:
            return False
        columns = {name: _with_free_arguments([calls[name] for calls in found]) for name in names}
        names.sort(key=lambda name: sum(len(call.arguments) for call in columns[name]))
        for index, instance in enumerate(group):
            first, *others = (
                replace(_with_defaults(columns[name][index]), project=instance.projects) for name in names
            )
            self.calls[instance.part.path] = replace(first, others=tuple(others))
        return True

    def _defined(self, group: list[_Instance]) -> None:
        """Resolve a family as calls of a block that the spec defines."""
        bodies = _align(group)
        combine = next((body.combine for body in bodies if body.combine != "none"), "none")
        inputs = [instance.part.input_shape[0] for instance in group]
        outputs = [instance.part.output_shape[0] for instance in group]
        unifier = Unifier(inputs, outputs, combine)
        model = next((body for body in bodies if body.section("shortcut").items), bodies[0])
        roles = [role for role, _ in model.sections]
        body = unifier.body(bodies, roles)
        drops = combine == "add" and any(isinstance(instance.part, Chain) for instance in group)
        projects = {
            instance.projects for instance in group if isinstance(instance.part, Residual) and instance.part.shortcut
        }
        always = projects == {"always"} and all(
            instance.part.shortcut for instance in group if isinstance(instance.part, Residual)
        )
        reads = next((other.reads for other in bodies if other.reads), "")
        body = replace(body, combine=combine, reads=reads, project="drop" if drops else "always" if always else "")
        takes = {name: argument_default(name, values) for name, values in unifier.arguments.items()}
        ordered = dict(sorted(takes.items(), key=lambda item: (item[1] is not MISSING, _ORDER.get(item[0], 50))))
        name = self._name(group, combine)
        self.blocks[name] = Block(body, ordered)
        for index, instance in enumerate(group):
            arguments = {name: values[index] for name, values in unifier.arguments.items()}
            known = {name: ordered[name] if value is None else value for name, value in arguments.items()}
            known = {name: (1 if value is MISSING else value) for name, value in known.items()}
            self.calls[instance.part.path] = BlockCall(
                name, tuple((key, known[key]) for key in ordered), "" if always else instance.projects
            )

    def _name(self, group: list[_Instance], combine: str) -> str:
        """Return a new name for a block, after the most common class of its modules."""
        classes = Counter(self.classes.get(instance.part.path, "") for instance in group)
        name = snake_case(classes.most_common(1)[0][0])
        if not name or name in _GENERIC:
            kinds = {"multiply": "gate", "concat": "dense", "none": "unit"}
            name = kinds.get(combine, "residual")
        taken = {
            *self.blocks,
            *OPS,
            *PREDEFINED,
            *LAYER_KEYS,
            *bundled.block_files(),
            "norm",
            "act",
            "none",
            "in",
            "classes",
        }
        candidates = [
            name,
            *([] if name in ("residual", "gate", "dense", "unit") else [f"{name}_block"]),
            *(f"{name}_{number}" for number in range(2, len(self.blocks) + 3)),
        ]
        return next(candidate for candidate in candidates if candidate not in taken)


_ORDER = {
    name: index for index, name in enumerate(("out", "width", "wide", "inner", "reduced", "kernel", "stride", "groups"))
}


def _signature(part: Chain | Residual) -> tuple[tuple[str, str], ...]:
    """Return the operations of a chain, or of a block but for its shortcut, with the names of those with weights."""
    rows = (part.before, part.branch, part.after) if isinstance(part, Residual) else part.rows
    leaves = [leaf for row in rows for leaf in walk(row) if isinstance(leaf, Leaf)]
    return tuple(
        (leaf.path.removeprefix(part.path) if leaf.op.weights(leaf.input_shape) else "", op_name(leaf.op))
        for leaf in leaves
    )


def _level(part: Part, levels: dict[int, list[Chain | Residual]], branches: Container[object]) -> int:
    """Return how many candidates for blocks are nested in a part, and enter each at its level.

    ``branches`` are the signatures of blocks; a chain of the same layers may be one of them without its shortcut.
    """
    inner = max((_level(child, levels, branches) for row in part.rows for child in row), default=0)
    if not isinstance(part, Chain | Residual):
        return inner
    if isinstance(part, Residual) or _signature(part) in branches:
        inner = max(inner, 1)  # a block with a shortcut, which holds a chain, is on the level of those without
    levels.setdefault(inner + 1, []).append(part)
    return inner + 1


def _key(instance: _Instance) -> tuple[Any, ...]:
    """Return what instances of a family share."""
    body = instance.body
    row = Sequence((*body.section("before").items, *body.section("branch").items, *body.section("after").items))
    inner = tuple(body.section(role).items != () for role in ("after",)) if body.combine not in ("add", "none") else ()
    return body.combine, skeleton(row), inner


def _with_same_shortcuts(group: list[_Instance]) -> list[list[_Instance]]:
    """Return a family divided by the names in its shortcuts; an identity belongs to the first of them."""
    divided: dict[tuple[str, ...], list[_Instance]] = {}
    names = [tuple(name for name, _ in instance.body.section("shortcut").items) for instance in group]
    usual = next((found for found in names if found), ())
    for instance, found in zip(group, names, strict=True):
        divided.setdefault(found or usual, []).append(instance)
    return list(divided.values())


def _has_shortcuts(group: Iterable[_Instance]) -> bool:
    return any(instance.body.section("shortcut").items or instance.body.section("before").items for instance in group)


def _is_changed(part: Chain | Residual) -> bool:
    """Return whether the branch of a block changes the shape of what its shortcut reads."""
    if isinstance(part, Chain):
        return part.input_shape != part.output_shape
    read = part.before[-1].output_shape if part.before and part.reads == "before" else part.input_shape
    start = part.before[-1].output_shape if part.before else part.input_shape
    branch = part.branch[-1].output_shape if part.branch else start
    return branch != (part.input_shape if not part.shortcut else read) and part.combine == "add"


def _align(group: list[_Instance]) -> list[Body]:
    """Return bodies with the same sections: an identity's ``before`` is apart, and so is a chain's ``after``."""
    model = next((instance.body for instance in group if instance.body.section("shortcut").items), None)
    model = model or next((instance.body for instance in group if isinstance(instance.part, Residual)), group[0].body)
    count, after = len(model.section("before").items), len(model.section("after").items)
    bodies = []
    for instance in group:
        body = instance.body
        if body.combine == "none" and model.combine != "none" and after:
            items = body.section("branch").items
            sections: tuple[tuple[Role, Sequence], ...] = (
                ("branch", Sequence(items[:-after])),
                ("after", Sequence(items[-after:])),
            )
            body = replace(body, sections=sections)
        bodies.append(with_before(body, count))
    return bodies


def _row_of_blocks(body: Body) -> Repeats | None:
    """Return a chain of nothing but blocks in a row as a repeat, or None."""
    items = body.section("branch").items
    calls = [call for _, call in items if isinstance(call, BlockCall)]
    numbering = _numbering([name for name, _ in items])
    if len(calls) < len(items) or numbering is None or not is_row(calls):
        return None
    return repeat_calls(calls, numbering)


def _numbering(names: list[str]) -> str | None:
    """Return the pattern of the names of blocks in a row, or None."""
    for start, word in ((0, "index"), (1, "number")):
        prefixes = {
            name.removesuffix(str(index)) for index, name in enumerate(names, start) if name.endswith(str(index))
        }
        if len(prefixes) == 1 and all(name.endswith(str(index)) for index, name in enumerate(names, start)):
            prefix = prefixes.pop()
            if all(name == f"{prefix}{index}" for index, name in enumerate(names, start)) and "{" not in prefix:
                return f"{prefix}{{{word}}}"
    return None


def _is_worth_a_block(body: Body) -> bool:
    """Return whether a chain is shorter as a block: it has several layers, and is no mere row of blocks."""
    items = body.section("branch").items
    if all(isinstance(term, BlockCall | Repeats) for _, term in items):
        return False
    return sum(isinstance(term, OpCall | BlockCall) for term in subterms(body)) >= 2


def _with_free_arguments(calls: list[tuple[BlockCall, frozenset[str]]]) -> list[BlockCall]:
    """Return calls in which arguments that make no difference are those of the call before, or of the next one."""
    written = []
    for index, (call, free) in enumerate(calls):
        arguments = dict(call.arguments)
        nearest = [*reversed(calls[:index]), *calls[index + 1 :]]
        for name in sorted(free):
            value = next((dict(other.arguments).get(name) for other, unused in nearest if name not in unused), None)
            if value is not None:
                arguments[name] = value
        written.append(replace(call, arguments=tuple(arguments.items())))
    return written


def _with_defaults(call: BlockCall) -> BlockCall:
    """Return a call of a bundled block with those of its arguments whose default is a number or a boolean."""
    block = bundled_block(call.block)
    assert block is not None
    given = dict(call.arguments)
    found = {}
    for name, default in block.takes.items():
        if name in given:
            found[name] = given[name]
        elif isinstance(default, Scalar) and not isinstance(literal(default), str):
            found[name] = literal(default)
    return replace(call, arguments=tuple(found.items()))


def snake_case(name: str) -> str:
    """Return a name as identifiers are written: BasicBlock becomes basic_block, and SEBlock se_block.

    >>> snake_case("BasicBlock"), snake_case("SEBlock"), snake_case("Conv2dNormV2")
    ('basic_block', 'se_block', 'conv2d_norm_v2')
    """
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+(?:\d+[a-z]*)?|[A-Z]+\d*|\d+", name)
    text = "_".join(part.lower() for part in parts)
    return text if text.isidentifier() else ""


def most_common(terms: Iterable[OpCall], names: Iterable[str]) -> OpCall | None:
    """Return the call that occurs most often among those of some operations."""
    counts = Counter(term for term in terms if term.op in set(names))
    return counts.most_common(1)[0][0] if counts else None
