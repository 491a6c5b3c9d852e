"""YAML text to located nodes, built from PyYAML's events: every value keeps its place, and no type is guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from resnet_spec.source import Note, Problem, Source, Span, SpecError

MOST_CHARACTERS = 2**20
MOST_NODES = 20_000
MOST_DEPTH = 32

# libyaml's parser is ten times as fast; walking its events, unlike composing with it, is safe at any nesting.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    if len(source.text) > MOST_CHARACTERS:
        raise _refused(source, f"the file has {len(source.text):,} characters; the limit is {MOST_CHARACTERS:,}")
    try:
        return _Builder(source).document(yaml.parse(source.text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _broken(source, error) from None
    except yaml.reader.ReaderError as error:
        line, column = _place(source.text, error.position)
        at = Span(source, line, column, column + 1)
        raise SpecError([Problem("RS101", f"not YAML: {error.reason}", at)]) from None


def kind(node: Node) -> str:
    """What to call a node in a message."""
    match node:
        case Scalar():
            return "a single value"
        case List():
            return "a list"
        case Mapping():
            return "a mapping"


class _Builder:
    """Nodes from events, with a stack of what is open, so that no nesting can exhaust Python's own."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.count = 0

    def document(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    if root is not None:
                        raise self.wrong("RS103", "a second document starts here; a spec is one document", event)
                    root = self.node(events)
                case _:
                    pass  # the stream's own start and end
        if root is None:
            raise _refused(self.source, "the spec is empty", code="RS101")
        return root

    def node(self, events: Iterator[Any]) -> Node:
        open_: list[tuple[Any, list[Node]]] = []
        root: Node | None = None
        done: Node
        for event in events:
            match event:
                case yaml.DocumentEndEvent():
                    break
                case yaml.ScalarEvent():
                    done = self.scalar(event)
                case yaml.AliasEvent():
                    done = self.alias(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self.opened(event, len(open_) + 1)
                    open_.append((event, []))
                    continue
                case _:
                    start, items = open_.pop()
                    done = self.closed(start, event, items)
            if not open_:
                root = done
            else:
                open_[-1][1].append(done)
        assert root is not None  # a document holds one node
        return root

    def scalar(self, event: Any) -> Scalar:
        self.counted(event, 1)
        if event.tag is not None:
            raise self.wrong("RS103", f"tags such as {event.tag} are not used here", event)
        node = Scalar(event.value, not event.style, self.span(event))
        if event.anchor:
            self.anchors[event.anchor] = (node, 1)
        return node

    def alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            raise self.wrong("RS103", f"no anchor &{event.anchor} is complete before this alias", event)
        node, size = self.anchors[event.anchor]
        self.counted(event, size)
        return node

    def opened(self, event: Any, depth: int) -> None:
        self.counted(event, 1)
        if depth > MOST_DEPTH:
            raise self.wrong("RS104", f"nested more than {MOST_DEPTH} deep", event)
        if event.tag is not None:
            raise self.wrong("RS103", f"tags such as {event.tag} are not used here", event)

    def closed(self, start: Any, end: Any, items: list[Node]) -> Node:
        at = self.span(start, end)
        node: Node = List(tuple(items), at) if isinstance(start, yaml.SequenceStartEvent) else self.mapping(items, at)
        if start.anchor:
            self.anchors[start.anchor] = (node, size(node))
        return node

    def mapping(self, items: list[Node], at: Span) -> Mapping:
        seen: dict[str, Scalar] = {}
        for key in items[::2]:
            if not isinstance(key, Scalar):
                raise SpecError([Problem("RS103", f"a key must be a single name, not {kind(key)}", key.at)])
            if key.text == "<<" and key.plain:
                help = "write the keys out, or start from another spec with extends"
                raise SpecError([Problem("RS103", "merge keys (<<) are not used here", key.at, help)])
            if key.text in seen:
                first = Note("first given here", seen[key.text].at)
                raise SpecError([Problem("RS102", f"{key.text!r} is given twice", key.at, notes=(first,))])
            seen[key.text] = key
        return Mapping(tuple(zip(seen.values(), items[1::2], strict=True)), at)

    def counted(self, event: Any, nodes: int) -> None:
        self.count += nodes
        if self.count > MOST_NODES:
            raise self.wrong("RS104", f"more than {MOST_NODES:,} values, with aliases counted where they stand", event)

    def span(self, start: Any, end: Any = None) -> Span:
        first, last = start.start_mark, (end or start).end_mark
        past = last.column + 1 if last.line == first.line else first.column + 2
        return Span(self.source, first.line + 1, first.column + 1, max(past, first.column + 2))

    def wrong(self, code: str, message: str, event: Any) -> SpecError:
        return SpecError([Problem(code, message, self.span(event))])


def size(node: Node) -> int:
    """How many nodes there are in a node, itself included."""
    match node:
        case Scalar():
            return 1
        case List():
            return 1 + sum(map(size, node.items))
        case Mapping():
            return 1 + sum(1 + size(value) for _, value in node.items)


def _broken(source: Source, error: yaml.MarkedYAMLError) -> SpecError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    at = Span(source, line, column, column + 1)
    return SpecError([Problem("RS101", f"not YAML: {error.problem or error.context}", at)])


def _refused(source: Source, message: str, code: str = "RS104") -> SpecError:
    return SpecError([Problem(code, message, Span(source, 1, 1, 2))])


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")
