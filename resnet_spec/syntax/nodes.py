"""YAML text to located nodes, built from PyYAML's events: every value keeps its place, and no type is guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from resnet_spec.diagnostics.problems import Note, Problems, Source, Span, SpecError, quote
from resnet_spec.syntax.yaml_events import (
    choose_loaders,
    describe_forbidden_character,
    find_forbidden_character,
    parse_events,
    syntax_problem,
)

MAX_NODES = 20_000
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as written. ``plain`` says that it is not quoted."""

    text: str
    plain: bool
    at: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    items: tuple[tuple[Scalar, Node], ...]
    at: Span


@dataclass(frozen=True, slots=True)
class List:
    items: tuple[Node, ...]
    at: Span


Node: TypeAlias = Scalar | Mapping | List


def parse(source: Source) -> Node:
    """The one document in a source, as nodes. Raises SpecError.

    >>> node = parse(Source("a.yaml", "conv1: {out: 64}"))
    >>> node.items[0][0].text, str(node.items[0][1].items[0][1].at)
    ('conv1', 'a.yaml:1:14')
    """
    problems = Problems()
    root = parse_into(source, problems)
    problems.stop()
    assert root is not None  # what has no root has a problem
    return root


def parse_into(source: Source, problems: Problems) -> Node | None:
    """The same, with what is wrong added to ``problems``; None where too much of it is to read on."""
    usable = choose_loaders(source, problems)
    while True:
        parser = usable.pop(0)
        builder = _Builder(source)
        root: Node | None = None
        try:
            root = builder.document(parse_events(source, parser))
        except SpecError:
            pass  # what stopped it is noted
        except (yaml.MarkedYAMLError, ValueError) as error:
            builder.problems.add(syntax_problem(source, error))
        if not usable or (root and not builder.problems.found):
            break
    for problem in builder.problems.found.values():
        problems.add(problem)
    return None if builder.holes else root


def describe_kind(node: Node) -> str:
    """What to call a node in a message."""
    match node:
        case Scalar():
            return "a single value"
        case List():
            return "a list"
        case Mapping():
            return "a mapping"


class _Open:
    """A list or mapping whose end has not come yet: what began it, what is in it, how deep that goes."""

    def __init__(self, start: Any) -> None:
        self.start = start
        self.items: list[Node | None] = []
        self.height = 1


_Anchored: TypeAlias = tuple[Node | None, int, int]
"""What an alias stands for, None if that is wrong itself; how many nodes, and how many deep."""


class _Builder:
    """Nodes from events, with a stack of what is open, so that no nesting can exhaust Python's own.

    What is wrong is noted, and reading goes on. ``holes`` says that something had to be left out, so that what the rest lacks
    is not to be told.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems = Problems()
        self.holes = False
        self.anchors: dict[str, _Anchored] = {}
        self.open: list[_Open] = []
        self.count = 0
        self.last = Span(source, 1, 1, 1)  # where the node before is

    def document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        started = False
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    if started:
                        raise self.stopped("RS103", "a second document starts here; a spec is one document", event)
                    started = True
                    self.directives(event)
                    root = self.node(events)
                case _:
                    pass  # the stream's own start and end
        if not started or (isinstance(root, Scalar) and root.text == "" and root.plain):
            root = None
            self.problems.report("RS101", "the spec is empty", Span(self.source, 1, 1, 2))
        return root

    def node(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            match event:
                case yaml.ScalarEvent():
                    found: _Anchored = (self.scalar(event), 1, 0)
                    anchor = event.anchor
                case yaml.AliasEvent():
                    found = self.alias(event)
                    anchor = None
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self.opened(event)
                    continue
                case _:
                    ended = self.open.pop()
                    node = self.closed(ended, event)
                    anchor = ended.start.anchor
                    found = (node, count_nodes(node) if anchor else 0, ended.height)
            if anchor:
                self.anchors[anchor] = found
            if not self.open:
                return found[0]
            self.open[-1].items.append(found[0])
            self.open[-1].height = max(self.open[-1].height, found[2] + 1)
        raise AssertionError("a document holds a node")

    def scalar(self, event: Any) -> Scalar:
        self.counted(event, 1)
        self.tagged(event)
        unfit = find_forbidden_character(event.value) if event.style == '"' else None
        if unfit:
            self.wrong("RS105", describe_forbidden_character(unfit.group()), event, "take it away")
        empty = event.start_mark.index == event.end_mark.index
        self.last = self.after() if empty else self.span(event)
        return Scalar(event.value, not event.style, self.last)

    def alias(self, event: Any) -> _Anchored:
        found = self.anchors.get(event.anchor)
        if found is None:
            self.wrong("RS103", f"nothing before this alias is wholly anchored as &{event.anchor}", event)
            self.holes = True
            return None, 0, 0
        _, size, height = found
        self.counted(event, size)
        self.last = self.span(event)
        if len(self.open) + height > MAX_DEPTH:
            raise self.stopped("RS104", f"nested more than {MAX_DEPTH} deep, with aliases where they stand", event)
        return found

    def opened(self, event: Any) -> None:
        self.counted(event, 1)
        self.tagged(event)
        if len(self.open) == MAX_DEPTH:
            raise self.stopped("RS104", f"nested more than {MAX_DEPTH} deep", event)
        first = event.start_mark
        self.last = Span(self.source, first.line + 1, first.column + 1, first.column + 2)
        self.open.append(_Open(event))

    def closed(self, ended: _Open, end: Any) -> Node:
        self.last = self.around(ended, end)
        if isinstance(ended.start, yaml.MappingStartEvent):
            return self.mapping(ended, self.last)
        return List(tuple(item for item in ended.items if item is not None), self.last)

    def mapping(self, ended: _Open, at: Span) -> Mapping:
        pairs: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(ended.items[::2], ended.items[1::2], strict=True):
            if not isinstance(key, Scalar) or value is None or (key.text == "<<" and key.plain):
                self.left_out(key)
            elif key.text in pairs:
                first = Note("first given here", pairs[key.text][0].at)
                self.problems.report("RS102", f"{quote(key.text)} is given twice", key.at, notes=(first,))
            else:
                pairs[key.text] = (key, value)
        return Mapping(tuple(pairs.values()), at)

    def left_out(self, key: Node | None) -> None:
        self.holes = True
        if isinstance(key, Scalar) and key.text == "<<":
            help = "write the keys out, or start from another spec with extends"
            self.problems.report("RS103", "merge keys (<<) are not used here", key.at, help)
        elif isinstance(key, List | Mapping):
            self.problems.report("RS103", f"a key must be a single name, not {describe_kind(key)}", key.at)

    # -- what is not used here, and limits ----------------------------------------------------------------------

    def directives(self, event: Any) -> None:
        for line in range(1, event.end_mark.line + 1):
            text = self.source.line(line)
            if text.startswith("%"):
                at = Span(self.source, line, 1, len(text) + 1)
                self.problems.report("RS103", "YAML directives are not used here", at, "take the line away")

    def tagged(self, event: Any) -> None:
        if event.tag is not None:
            help = "every value's type is known from where it stands"
            self.wrong("RS103", f"tags such as {quote(event.tag)[1:-1]} are not used here", event, help)

    def counted(self, event: Any, nodes: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            message = f"more than {MAX_NODES:,} values, with aliases counted where they stand"
            raise self.stopped("RS104", message, event)

    def wrong(self, code: str, message: str, event: Any, help: str = "") -> None:
        self.problems.report(code, message, self.span(event), help)

    def stopped(self, code: str, message: str, event: Any) -> SpecError:
        self.wrong(code, message, event)
        return SpecError(self.problems.found.values())

    # -- places -------------------------------------------------------------------------------------------------

    def span(self, event: Any) -> Span:
        """The place of an event; of one that goes on over several lines, what of it stands on the first."""
        first, last = event.start_mark, event.end_mark
        line = first.line + 1
        past = last.column if last.line == first.line else len(self.source.line(line).rstrip())
        return Span(self.source, line, first.column + 1, max(past, first.column + 1) + 1)

    def after(self) -> Span:
        """The place of a value that is left out: just after what comes before it. The two parsers differ on it."""
        return Span(self.source, self.last.line, self.last.end, self.last.end + 1)

    def around(self, ended: _Open, end: Any) -> Span:
        """The place of a list or mapping. Where a block of lines ends, the two parsers differ, so what is in it says that."""
        first, last = ended.start.start_mark, end.end_mark
        line = first.line + 1
        if ended.start.flow_style and last.line == first.line:
            past = last.column + 1
        else:
            past = max((item.at.end for item in ended.items if item and item.at.line == line), default=0)
        return Span(self.source, line, first.column + 1, max(past, first.column + 2))


def count_nodes(node: Node) -> int:
    """How many nodes there are in a node, itself included."""
    match node:
        case Scalar():
            return 1
        case List():
            return 1 + sum(map(count_nodes, node.items))
        case Mapping():
            return 1 + sum(1 + count_nodes(value) for _, value in node.items)
