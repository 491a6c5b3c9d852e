"""YAML text to nodes, built from PyYAML's events: every value keeps its place and its text, and no type is guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

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
"""Most nodes of a document. The nodes of an alias count at each place where it is used."""
MAX_DEPTH = 32
"""Most levels of nesting."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: its text, and whether it is plain, that is not in quotes."""

    text: str
    plain: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping. Its keys are distinct scalars."""

    items: tuple[tuple[Scalar, Node], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class List:
    """A list."""

    items: tuple[Node, ...]
    span: Span


Node: TypeAlias = Scalar | Mapping | List


def parse(source: Source) -> Node:
    """Return the root node of the document in a source. Raises SpecError.

    >>> node = parse(Source("a.yaml", "conv1: {out: 64}"))
    >>> node.items[0][0].text, str(node.items[0][1].items[0][1].span)
    ('conv1', 'a.yaml:1:14')
    """
    problems = Problems()
    root = parse_into(source, problems)
    problems.stop()
    assert root is not None  # otherwise there is a problem
    return root


def parse_into(source: Source, problems: Problems) -> Node | None:
    """Return the root node of a document, and add problems to ``problems``; None if the document is not complete.

    Raises SpecError if the text is too long or has a character that is not allowed.
    """
    loaders = choose_loaders(source, problems)
    while True:
        loader = loaders.pop(0)
        builder = _Builder(source)
        root: Node | None = None
        try:
            root = builder.build_document(parse_events(source, loader))
        except SpecError:
            pass  # a limit was exceeded, and that is reported already
        except (yaml.MarkedYAMLError, ValueError) as error:
            builder.problems.add(syntax_problem(source, error))
        if not loaders or (root and not builder.problems):
            break
    for problem in builder.problems:
        problems.add(problem)
    return None if builder.incomplete else root


def describe_kind(node: Node) -> str:
    """Return what messages call a node."""
    match node:
        case Scalar():
            return "a single value"
        case List():
            return "a list"
        case Mapping():
            return "a mapping"


class _OpenCollection:
    """A list or mapping whose end has not been read yet: its start event, its items, and the height of its subtree."""

    def __init__(self, start: Any) -> None:
        self.start = start
        self.items: list[Node | None] = []
        self.height = 1


class _Subtree(NamedTuple):
    """A node with the size and the height of its subtree. The node is None if an alias in its place is unknown."""

    node: Node | None
    size: int
    height: int


class _Builder:
    """Builds nodes from events. Open collections are on a stack, so nesting cannot exceed Python's recursion limit.

    After a problem, building continues. ``incomplete`` tells that something was left out, so that a check of what the
    document lacks would report consequences of that.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems = Problems()
        self.incomplete = False
        self.anchors: dict[str, _Subtree] = {}
        self.open: list[_OpenCollection] = []
        self.node_count = 0
        self.last_span = Span(source, 1, 1, 1)  # the place of the node before

    def build_document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        started = False
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    if started:
                        raise self.stop("RS103", "a second document starts here; a spec is a single document", event)
                    started = True
                    self.check_directives(event)
                    root = self.build_root(events)
                case _:
                    pass  # the start or the end of the stream
        if not started or (isinstance(root, Scalar) and root.text == "" and root.plain):
            root = None
            self.problems.report("RS101", "the spec is empty", Span(self.source, 1, 1, 2))
        return root

    def build_root(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            match event:
                case yaml.ScalarEvent():
                    subtree = _Subtree(self.build_scalar(event), 1, 0)
                    anchor = event.anchor
                case yaml.AliasEvent():
                    subtree = self.resolve_alias(event)
                    anchor = None
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self.open_collection(event)
                    continue
                case _:
                    collection = self.open.pop()
                    node = self.close_collection(collection, event)
                    anchor = collection.start.anchor
                    subtree = _Subtree(node, count_nodes(node) if anchor else 0, collection.height)
            if anchor:
                self.anchors[anchor] = subtree
            if not self.open:
                return subtree.node
            self.open[-1].items.append(subtree.node)
            self.open[-1].height = max(self.open[-1].height, subtree.height + 1)
        raise AssertionError("a document has a root node")

    def build_scalar(self, event: Any) -> Scalar:
        self.count(event, 1)
        self.check_tag(event)
        # In double quotes, an escape can stand for a character that the text itself cannot contain.
        forbidden = find_forbidden_character(event.value) if event.style == '"' else None
        if forbidden:
            self.report("RS105", describe_forbidden_character(forbidden.group()), event, "remove it")
        empty = event.start_mark.index == event.end_mark.index
        self.last_span = self.span_after_last() if empty else self.event_span(event)
        return Scalar(event.value, not event.style, self.last_span)

    def resolve_alias(self, event: Any) -> _Subtree:
        subtree = self.anchors.get(event.anchor)
        if subtree is None:
            self.report("RS103", f"no complete value with the anchor &{event.anchor} precedes this alias", event)
            self.incomplete = True
            return _Subtree(None, 0, 0)
        self.count(event, subtree.size)
        self.last_span = self.event_span(event)
        if len(self.open) + subtree.height > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} levels of nesting, where aliases stand for their values"
            raise self.stop("RS104", message, event)
        return subtree

    def open_collection(self, event: Any) -> None:
        self.count(event, 1)
        self.check_tag(event)
        if len(self.open) == MAX_DEPTH:
            raise self.stop("RS104", f"more than {MAX_DEPTH} levels of nesting", event)
        first = event.start_mark
        self.last_span = Span(self.source, first.line + 1, first.column + 1, first.column + 2)
        self.open.append(_OpenCollection(event))

    def close_collection(self, collection: _OpenCollection, end: Any) -> Node:
        self.last_span = self.collection_span(collection, end)
        if isinstance(collection.start, yaml.MappingStartEvent):
            return self.build_mapping(collection, self.last_span)
        return List(tuple(item for item in collection.items if item is not None), self.last_span)

    def build_mapping(self, collection: _OpenCollection, span: Span) -> Mapping:
        pairs: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(collection.items[::2], collection.items[1::2], strict=True):
            if not isinstance(key, Scalar) or value is None or (key.text == "<<" and key.plain):
                self.leave_out(key)
            elif key.text in pairs:
                first = Note("the first one is here", pairs[key.text][0].span)
                self.problems.report("RS102", f"duplicate key {quote(key.text)}", key.span, notes=(first,))
            else:
                pairs[key.text] = (key, value)
        return Mapping(tuple(pairs.values()), span)

    def leave_out(self, key: Node | None) -> None:
        self.incomplete = True
        if isinstance(key, Scalar) and key.text == "<<":
            help = "write out the keys, or use extends to start from another spec"
            self.problems.report("RS103", "merge keys (<<) are not supported in specs", key.span, help)
        elif isinstance(key, List | Mapping):
            self.problems.report("RS103", f"a key must be a single value, not {describe_kind(key)}", key.span)

    # -- unsupported features and limits ------------------------------------------------------------------------

    def check_directives(self, event: Any) -> None:
        for line in range(1, event.end_mark.line + 1):
            text = self.source.line(line)
            if text.startswith("%"):
                span = Span(self.source, line, 1, len(text) + 1)
                self.problems.report("RS103", "YAML directives are not supported in specs", span, "remove this line")

    def check_tag(self, event: Any) -> None:
        if event.tag is not None:
            help = "remove it: the type of each value follows from its key"
            self.report(
                "RS103", f"YAML tags, such as {quote(event.tag)[1:-1]}, are not supported in specs", event, help
            )

    def count(self, event: Any, nodes: int) -> None:
        self.node_count += nodes
        if self.node_count > MAX_NODES:
            message = f"more than {MAX_NODES:,} values, counting those of an alias wherever it is used"
            raise self.stop("RS104", message, event)

    def report(self, code: str, message: str, event: Any, help: str = "") -> None:
        self.problems.report(code, message, self.event_span(event), help)

    def stop(self, code: str, message: str, event: Any) -> SpecError:
        """Report a problem after which building cannot continue, and return the error to raise."""
        self.report(code, message, event)
        return SpecError(self.problems)

    # -- places -------------------------------------------------------------------------------------------------

    def event_span(self, event: Any) -> Span:
        """Return the place of an event; its part in the first line, if it extends over several."""
        first, last = event.start_mark, event.end_mark
        line = first.line + 1
        end = last.column if last.line == first.line else len(self.source.line(line).rstrip())
        return Span(self.source, line, first.column + 1, max(end, first.column + 1) + 1)

    def span_after_last(self) -> Span:
        """Return the place of an empty value: just after the node before it, as PyYAML's parsers differ."""
        return Span(self.source, self.last_span.line, self.last_span.end, self.last_span.end + 1)

    def collection_span(self, collection: _OpenCollection, end: Any) -> Span:
        """Return the place of a list or mapping.

        PyYAML's parsers disagree about the end of a block collection, so it follows from the items in the first line.
        """
        first, last = collection.start.start_mark, end.end_mark
        line = first.line + 1
        if collection.start.flow_style and last.line == first.line:
            past = last.column + 1
        else:
            past = max((item.span.end for item in collection.items if item and item.span.line == line), default=0)
        return Span(self.source, line, first.column + 1, max(past, first.column + 2))


def count_nodes(node: Node) -> int:
    """Return the number of nodes in a tree, including its root."""
    match node:
        case Scalar():
            return 1
        case List():
            return 1 + sum(map(count_nodes, node.items))
        case Mapping():
            return 1 + sum(1 + count_nodes(value) for _, value in node.items)
