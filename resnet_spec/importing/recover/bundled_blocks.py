"""Recognise the bundled blocks: match the layers of a block's file with those of a term, and find its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from resnet_spec.importing.recover.terms import (
    BlockCall,
    Body,
    Branching,
    OpCall,
    Sequence,
    default_arguments,
    half_padding,
    has_weights,
)
from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.language.spec import Argument, Block, Branches, Call, Group, Layer, Role, Values
from resnet_spec.library import bundled
from resnet_spec.library.load import bundled_block
from resnet_spec.ops import OPS
from resnet_spec.syntax.nodes import Scalar

Bindings = Mapping[str, Any]
"""Arguments of a block with what they stand for; None for a layer that is left out."""

ABSENT = None
MAX_NESTING = 6


@dataclass(frozen=True, slots=True)
class Words:
    """What ``norm`` and ``act`` stand for in the network, and what else its blocks have in common.

    Attributes:
        defaults: Arguments of operations where nothing else is said.
        is_ordered: Whether the order of weights matters, which is that of a block's sections.
    """

    norm: OpCall
    act: OpCall
    defaults: Mapping[str, Mapping[str, Any]]
    is_ordered: bool = True


def find_bundled(
    body: Body, channels: int, words: Words, is_changed: bool = False
) -> Iterator[tuple[BlockCall, frozenset[str]]]:
    """Yield the calls of bundled blocks that are the same as a body, whose input has some number of channels.

    With each, yield the arguments that make no difference here, such as those of a shortcut that is the identity. If
    ``is_changed``, the body changes the shape of its input: a chain may then be a block that drops its shortcut.
    """
    for name in bundled.block_files():
        block = bundled_block(name)
        if block is None:
            continue
        drops = is_changed and body.combine == "none" and block.combine == "add" and block.project == "drop"
        if drops or (block.combine == "none") == (body.combine == "none"):
            call = _Matcher(words, channels, block.takes).call(block, replace(body, combine="add") if drops else body)
            if call is not None:
                yield call


def with_before(body: Body, count: int) -> Body:
    """Return a body whose branch's first layers stand in ``before``, which is the same with an identity shortcut."""
    before, branch = body.section("before"), body.section("branch")
    if before.items or body.section("shortcut").items or not count or len(branch.items) < count:
        return body
    sections: list[tuple[Role, Sequence]] = [
        ("before", Sequence(branch.items[:count])),
        ("branch", Sequence(branch.items[count:])),
    ]
    return Body(body.combine, (*sections, *((role, row) for role, row in body.sections if role == "after")), body.reads)


class _Matcher:
    def __init__(self, words: Words, channels: int, takes: Mapping[str, Layer | None]) -> None:
        self.words = words
        self.channels = channels
        self.takes = takes

    def call(self, block: Block, body: Body) -> tuple[BlockCall, frozenset[str]] | None:
        """Return the call of a block that is the same as a body, and the arguments that make no difference, or None."""
        before = block.sections.get("before")
        for candidate in (body, with_before(body, len(before.layers) if before else 0)):
            for bindings in self.sections(block, candidate, {}):
                arguments = self.arguments(block, bindings)
                if arguments is not None:
                    return BlockCall(block.name, tuple(arguments.items())), frozenset(set(block.takes) - set(bindings))
        return None

    def arguments(self, block: Block, bindings: Bindings) -> dict[str, Any] | None:
        """Return the arguments to write; None if a required one is unknown."""
        found: dict[str, Any] = {}
        for name, default in block.takes.items():
            if name not in bindings:
                if default is None:
                    return None
                continue
            if default is None or not self.is_default(
                default, bindings[name], {key: value for key, value in bindings.items() if key != name}
            ):
                found[name] = "none" if bindings[name] is ABSENT else bindings[name]
        return found

    def is_default(self, default: Layer, value: Any, bindings: Bindings) -> bool:
        """Return whether an argument has its default value."""
        if isinstance(default, Scalar) and default.text in bindings:
            return bool(bindings[default.text] == value)
        if isinstance(default, Scalar):
            if default.text == "none":
                return value is ABSENT
            if default.text == "in":
                return bool(value == self.channels)
            if isinstance(value, BlockCall):
                return value.block == PREDEFINED.get(default.text, default.text) and not value.arguments
            if isinstance(value, OpCall):
                return value == self.word(default.text)
            return literal(default) == value and type(literal(default)) is type(value)
        return False

    def sections(self, block: Block, body: Body, bindings: Bindings) -> Iterator[Bindings]:
        """Yield the ways in which a block's sections are those of a body."""
        if block.combine != body.combine:
            return
        shortcut = body.section("shortcut")
        usual = "before" if shortcut.items and body.section("before").items else "input"
        if body.section("before").items and (block.reads or usual) != (body.reads or usual):
            return
        order = [role for role in block.sections if body.section(role).items]
        if self.words.is_ordered and shortcut.items and order != [role for role, _ in body.sections]:
            return
        roles: list[Role] = ["before", "branch", "shortcut", "after"]
        if block.combine == "none":
            row = Sequence(tuple(item for role in roles for item in body.section(role).items))
            groups = [group for role in roles if (group := block.sections.get(role))]
            yield from self.rows(groups, row, bindings)
            return
        if shortcut.items and "shortcut" not in block.sections:
            return
        yield from self._roles([role for role in roles if role != "shortcut" or shortcut.items], block, body, bindings)

    def _roles(self, roles: list[Role], block: Block, body: Body, bindings: Bindings) -> Iterator[Bindings]:
        if not roles:
            yield bindings
            return
        group = block.sections.get(roles[0])
        for found in self.rows([group] if group else [], body.section(roles[0]), bindings):
            yield from self._roles(roles[1:], block, body, found)

    def rows(self, groups: list[Group], row: Sequence, bindings: Bindings) -> Iterator[Bindings]:
        """Yield the ways in which groups, one after another, are the layers of a row."""
        layers = [
            (str(index) if group.is_numbered else key.text, layer)
            for group in groups
            for index, (key, layer) in enumerate(group.layers)
        ]
        yield from self._items(layers, row.items, bindings)

    def _items(
        self, layers: list[tuple[str, Layer]], items: tuple[tuple[str, Any], ...], bindings: Bindings, depth: int = 0
    ) -> Iterator[Bindings]:
        if not layers:
            if not items:
                yield bindings
            return
        (name, layer), *rest = layers
        if items and (name == items[0][0] or not has_weights(items[0][1])):
            for found in self.layer(layer, items[0][1], bindings):
                yield from self._items(rest, items[1:], found)
        for found in self.absent(layer, bindings):
            yield from self._items(rest, items, found)

    def absent(self, layer: Layer, bindings: Bindings) -> Iterator[Bindings]:
        """Yield the bindings with which a layer is left out."""
        if isinstance(layer, Scalar):
            if layer.text == "none" or (layer.text in bindings and bindings[layer.text] is ABSENT):
                yield bindings
            elif layer.plain and layer.text in self.takes and layer.text not in bindings:
                yield {**bindings, layer.text: ABSENT}

    # -- layers --------------------------------------------------------------------------------------------------

    def layer(self, layer: Layer, term: Any, bindings: Bindings) -> Iterator[Bindings]:
        """Yield the ways in which a layer of a block is a term."""
        match layer:
            case Scalar(text=text) if text in self.takes:
                if text not in bindings:
                    yield {**bindings, text: term}
                elif bindings[text] == term:
                    yield bindings
            case Scalar(text=text) if text in OPS or text in PREDEFINED:
                if self.word(text) == term:
                    yield bindings
            case Call(target=target) as call:
                yield from self._call(call, target.text, term, bindings)
            case Group() as group if isinstance(term, Sequence):
                yield from self.rows([group], term, bindings)
            case Branches() as written if isinstance(term, Branching):
                yield from self._branches(written, term, bindings)

    def _call(self, call: Call, target: str, term: Any, bindings: Bindings) -> Iterator[Bindings]:
        target = target if target in self.takes else PREDEFINED.get(target, target)
        if isinstance(term, OpCall) and (call.what == "op" or target in OPS):
            if term.op == target:
                yield from self._arguments(call, term, bindings)
        elif isinstance(term, BlockCall) and call.what == "block":
            for same in (term, *term.others):
                yield from self._block_call(call, target, same, bindings)

    def _block_call(self, call: Call, target: str, term: BlockCall, bindings: Bindings) -> Iterator[Bindings]:
        """Match a call of a block with one: arguments that the block does not say belong to what a name stands for."""
        if target in self.takes:
            bound = bindings.get(target)
            if target in bindings and not (isinstance(bound, BlockCall) and bound.block == term.block):
                return
        elif target != term.block:
            return
        rest = dict(term.arguments)
        inner = bundled_block(term.block)
        takes = inner.takes if inner is not None else {}
        found = bindings
        for name, argument in call.arguments.items():
            default = takes.get(name)
            if name in rest:
                actual = rest.pop(name)
            elif isinstance(default, Scalar):
                actual = literal(default)
            else:
                return
            bound = self.value(argument, actual, found)
            if bound is None:
                return
            found = bound
        rest = {name: value for name, value in rest.items() if not _is_literal_default(takes.get(name), value)}
        if target in self.takes:
            yield {**found, target: BlockCall(term.block, tuple(rest.items()))}
        elif not rest:
            yield found

    def _arguments(self, call: Call, term: OpCall, bindings: Bindings) -> Iterator[Bindings]:
        found = bindings
        defaults = default_arguments(term.op) | dict(self.words.defaults.get(term.op, {}))
        actual = dict(term.arguments)
        for name, argument in call.arguments.items():
            bound = self.value(argument, numeric(term, name), found)
            if bound is None:
                return
            found = bound
        unsaid = {name: value for name, value in actual.items() if name not in call.arguments}
        if all(defaults.get(name) in (value, numeric(term, name)) for name, value in unsaid.items()):
            yield found

    def _branches(self, written: Branches, term: Branching, bindings: Bindings) -> Iterator[Bindings]:
        if written.combine != term.combine or len(written.branches) != len(term.branches) or term.resize:
            return
        found = bindings
        for argument, actual in ((written.split, term.split), (written.cascade, term.cascade)):
            if argument is None:
                if actual:
                    return
                continue
            if not isinstance(argument, Scalar):
                return
            bound = self.value(argument, actual, found)
            if bound is None:
                return
            found = bound
        yield from self._each_branch(list(written.branches), list(term.branches), found)

    def _each_branch(self, groups: list[Group], rows: list[Sequence], bindings: Bindings) -> Iterator[Bindings]:
        if not groups:
            yield bindings
            return
        for found in self.rows([groups[0]], rows[0], bindings):
            yield from self._each_branch(groups[1:], rows[1:], found)

    def value(self, argument: Argument, actual: Any, bindings: Bindings) -> Bindings | None:
        """Return the bindings with which an argument has a value, or None."""
        if isinstance(argument, Values):
            items = tuple(literal(item) for item in argument.items if isinstance(item, Scalar))
            return bindings if items == actual else None
        if not isinstance(argument, Scalar):
            return None
        if argument.text == "in":
            return bindings if actual == self.channels else None
        if argument.text in self.takes:
            if argument.text in bindings:
                bound = bindings[argument.text]
                return bindings if bound == actual and type(bound) is type(actual) else None
            return {**bindings, argument.text: actual}
        return bindings if literal(argument) == actual else None

    def word(self, text: str) -> OpCall | None:
        """Return what a word stands for."""
        if text == "norm":
            return self.words.norm
        if text == "act":
            return self.words.act
        if text in OPS:
            arguments = default_arguments(text) | dict(self.words.defaults.get(text, {}))
            return OpCall(
                text, tuple(arguments.items()), has_weights=text in ("batch_norm", "layer_norm", "group_norm")
            )
        return None


def numeric(term: OpCall, name: str) -> Any:
    """Return an argument of a call; a padding as a number, which depends on the kernel."""
    value = term.argument(name)
    if name != "padding" or value != "half":
        return value
    arguments = {key: item for key, item in term.arguments if key != "padding"}
    return half_padding(OPS[term.op](**arguments))


def _is_literal_default(default: Any, value: Any) -> bool:
    """Return whether a value is a default that is a number or a boolean."""
    known = literal(default) if isinstance(default, Scalar) else None
    return known is not None and type(known) is type(value) and bool(known == value)


def literal(scalar: Scalar) -> Any:
    """Return what the text of a scalar says: a number, a boolean or a word."""
    text = scalar.text
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
