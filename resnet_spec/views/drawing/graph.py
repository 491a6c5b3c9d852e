"""A diagram as a graph: nodes, edges, and clusters of nodes, for the languages that lay it out themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import assert_never

from resnet_spec.ops import Shape
from resnet_spec.views.drawing.diagram import Block, Cell, Column, Frame, Item, ParallelItem, ResidualItem, summarize
from resnet_spec.views.drawing.pieces import format_dimensions


@dataclass(frozen=True, slots=True)
class Node:
    """A box or a mark. ``lines`` is what it says, the first of them its label."""

    id: str
    lines: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Edge:
    """From node to node; ``label`` is the shape, where it changes."""

    start: str
    end: str
    dashed: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes in a box with a title; clusters nest."""

    id: str
    title: str
    nodes: tuple[Node, ...]
    inner: tuple[Cluster, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    clusters: tuple[Cluster, ...]
    edges: tuple[Edge, ...]


@dataclass(slots=True)
class _GraphBuilder:
    """Numbers nodes and ties each to what it follows."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    count: int = 0

    def node(self, lines: Iterable[str], kind: str) -> str:
        self.count += 1
        self.nodes.append(Node(f"n{self.count}", tuple(line for line in lines if line), kind))
        return f"n{self.count}"

    def tie(self, starts: Iterable[tuple[str, bool, str]], end: str) -> None:
        self.edges += [Edge(start, end, dashed, label) for start, dashed, label in starts]

    def taken(self) -> tuple[Node, ...]:
        nodes, self.nodes = tuple(self.nodes), []
        return nodes


def build_graph(frames: tuple[Frame, ...], input_shape: Shape, depth: int | None = None) -> Graph:
    """The graph of a diagram, from the network's input to its output: stages at depth 1, blocks at depth 2, else all layers."""
    weaver = _GraphBuilder()
    at = weaver.node(["input", format_dimensions(input_shape)], "end")
    clusters = [Cluster("input", "", weaver.taken(), ())]
    label = ""
    for number, frame in enumerate(frames):
        at, cluster = _frame(weaver, frame, f"s{number}", at, label, depth)
        clusters.append(cluster)
        label = format_dimensions(frame.group.output_shape)
    end = weaver.node(["output", label], "end")
    weaver.tie([(at, False, "")], end)
    return Graph((*clusters, Cluster("output", "", weaver.taken(), ())), tuple(weaver.edges))


def _frame(
    weaver: _GraphBuilder, frame: Frame, id: str, start: str, label: str, depth: int | None
) -> tuple[str, Cluster]:
    """A frame as a cluster; and the last of its nodes."""
    group, at = frame.group, start
    if not group.path:
        at = _column(weaver, frame.blocks[0].column, at, dashed=False, label=label)
        return at, Cluster(id, group.name, weaver.taken(), ())
    title = f"{group.name}, {len(group.parts)} block{'s' * (len(group.parts) > 1)}"
    if depth == 1:
        at = weaver.node([group.name, title.partition(", ")[2]], "closed")
        weaver.tie([(start, False, label)], at)
        return at, Cluster(id, "", weaver.taken(), ())
    inner: list[Cluster] = []
    for index, block in enumerate(frame.blocks):
        if depth == 2:
            node = weaver.node([_title(block), *summarize(block.column)], "closed")
            weaver.tie([(at, False, label)], node)
            at = node
        else:
            at = _column(weaver, block.column, at, dashed=False, label=label)
            inner.append(Cluster(f"{id}b{index}", _title(block), weaver.taken(), ()))
        label = ""
    return at, Cluster(id, title, weaver.taken(), tuple(inner))


def _title(block: Block) -> str:
    times = len(block.parts)
    return f"{block.name}, × {times}" if times > 1 else block.name


def _column(weaver: _GraphBuilder, items: Column, start: str, *, dashed: bool, label: str) -> str:
    """Items after the node ``start``; the last of their nodes."""
    for item in items:
        start = _item(weaver, item, start, dashed=dashed, label=label)
        label = format_dimensions(item.output_shape) if item.input_shape[1:] != item.output_shape[1:] else ""
        dashed = dashed and isinstance(item, Cell)
    return start


def _item(weaver: _GraphBuilder, item: Item, start: str, *, dashed: bool, label: str) -> str:
    match item:
        case Cell():
            node = weaver.node([item.label, " · ".join(note for note, _ in item.notes)], item.kind)
            weaver.tie([(start, dashed, label)], node)
            return node
        case ResidualItem():
            read = _column(weaver, item.before, start, dashed=False, label=label)
            label = "" if item.before else label
            branch = _column(weaver, item.branch, read, dashed=False, label=label)
            other = start if item.early else read
            shortcut = _column(weaver, item.shortcut, other, dashed=True, label="") if item.shortcut else other
            meet = weaver.node(["+" if item.combine == "add" else "×"], "mark")
            weaver.tie([(branch, False, ""), (shortcut, bool(item.shortcut), "")], meet)
            return _column(weaver, item.after, meet, dashed=False, label="")
        case ParallelItem():
            ends: list[str] = []
            for number, row in enumerate(item.branches):
                first = f"n{weaver.count + 1}"
                end = _column(weaver, row, start, dashed=dashed, label="")
                if item.cascade and row and number and item.branches[number - 1]:
                    weaver.tie([(ends[-1], False, "")], first)
                ends.append(end)
            meet = weaver.node([item.combine], "mark" if item.combine == "add" else "join")
            weaver.tie([(end, False, "") for end in ends], meet)
            return meet
        case _:
            assert_never(item)


def walk_nodes(clusters: Iterable[Cluster]) -> Iterator[Node]:
    """Every node of some clusters."""
    for cluster in clusters:
        yield from cluster.nodes
        yield from walk_nodes(cluster.inner)
