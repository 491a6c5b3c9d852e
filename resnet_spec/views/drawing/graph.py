"""Diagrams as graphs of nodes, edges and clusters, for languages that do their own layout: Mermaid and Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import assert_never

from resnet_spec.ops import Shape
from resnet_spec.views.drawing.diagram import Block, Cell, Column, Frame, Item, ParallelItem, ResidualItem, summarize
from resnet_spec.views.drawing.pieces import format_dimensions


@dataclass(frozen=True, slots=True)
class Node:
    """A box or a mark. ``lines`` is its text, the label first."""

    id: str
    lines: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two nodes. ``label`` is the shape that passes, where it has changed."""

    start: str
    end: str
    dashed: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes in a box with a title, and the clusters inside it. Without a title there is no box."""

    id: str
    title: str
    nodes: tuple[Node, ...]
    inner: tuple[Cluster, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A network's nodes, grouped in clusters, and the edges between them."""

    clusters: tuple[Cluster, ...]
    edges: tuple[Edge, ...]


@dataclass(slots=True)
class _GraphBuilder:
    """Numbers nodes as they are added, and collects them for the next cluster."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    count: int = 0

    def add_node(self, lines: Iterable[str], kind: str) -> str:
        """Add a node and return its id."""
        self.count += 1
        self.nodes.append(Node(f"n{self.count}", tuple(line for line in lines if line), kind))
        return f"n{self.count}"

    def add_edge(self, start: str, end: str, *, dashed: bool = False, label: str = "") -> None:
        """Add an edge between two nodes."""
        self.edges.append(Edge(start, end, dashed, label))

    def take_nodes(self) -> tuple[Node, ...]:
        """Return the nodes added since the last call."""
        nodes, self.nodes = tuple(self.nodes), []
        return nodes


def build_graph(frames: tuple[Frame, ...], input_shape: Shape, depth: int | None = None) -> Graph:
    """Return a diagram as a graph: stages at depth 1, blocks at depth 2, otherwise all layers."""
    builder = _GraphBuilder()
    last = builder.add_node(["input", format_dimensions(input_shape)], "end")
    clusters = [Cluster("input", "", builder.take_nodes(), ())]
    label = ""
    for number, frame in enumerate(frames):
        last, cluster = _add_frame(builder, frame, f"s{number}", last, label, depth)
        clusters.append(cluster)
        label = format_dimensions(frame.group.output_shape)
    builder.add_edge(last, builder.add_node(["output", label], "end"))
    return Graph((*clusters, Cluster("output", "", builder.take_nodes(), ())), tuple(builder.edges))


def _add_frame(
    builder: _GraphBuilder, frame: Frame, id: str, last: str, label: str, depth: int | None
) -> tuple[str, Cluster]:
    """Add a frame after the node ``last``. Return the frame's last node, and its cluster."""
    group = frame.group
    if not group.path:
        last = _add_column(builder, frame.blocks[0].column, last, dashed=False, label=label)
        return last, Cluster(id, group.name, builder.take_nodes(), ())
    blocks = f"{len(group.parts)} block{'s' * (len(group.parts) > 1)}"
    if depth == 1:
        node = builder.add_node([group.name, blocks], "closed")
        builder.add_edge(last, node, label=label)
        return node, Cluster(id, "", builder.take_nodes(), ())
    inner: list[Cluster] = []
    for index, block in enumerate(frame.blocks):
        if depth == 2:
            node = builder.add_node([_title(block), *summarize(block.column)], "closed")
            builder.add_edge(last, node, label=label)
            last = node
        else:
            last = _add_column(builder, block.column, last, dashed=False, label=label)
            inner.append(Cluster(f"{id}b{index}", _title(block), builder.take_nodes(), ()))
        label = ""
    return last, Cluster(id, f"{group.name}, {blocks}", builder.take_nodes(), tuple(inner))


def _title(block: Block) -> str:
    times = len(block.parts)
    return f"{block.name}, × {times}" if times > 1 else block.name


def _add_column(builder: _GraphBuilder, items: Column, last: str, *, dashed: bool, label: str) -> str:
    """Add items one after another, after the node ``last``, and return the last of their nodes."""
    for item in items:
        last = _add_item(builder, item, last, dashed=dashed, label=label)
        label = format_dimensions(item.output_shape) if item.input_shape[1:] != item.output_shape[1:] else ""
        dashed = dashed and isinstance(item, Cell)
    return last


def _add_item(builder: _GraphBuilder, item: Item, last: str, *, dashed: bool, label: str) -> str:
    match item:
        case Cell():
            node = builder.add_node([item.label, " · ".join(note for note, _ in item.notes)], item.kind)
            builder.add_edge(last, node, dashed=dashed, label=label)
            return node
        case ResidualItem():
            return _add_residual(builder, item, last, label)
        case ParallelItem():
            return _add_parallel(builder, item, last, dashed=dashed)
        case _:
            assert_never(item)


_MARKS = {"add": "+", "multiply": "×"}


def _add_residual(builder: _GraphBuilder, item: ResidualItem, last: str, label: str) -> str:
    before = _add_column(builder, item.before, last, dashed=False, label=label)
    branch = _add_column(builder, item.branch, before, dashed=False, label="" if item.before else label)
    shortcut = last if item.skips_before else before
    if item.shortcut:
        shortcut = _add_column(builder, item.shortcut, shortcut, dashed=True, label="")
    mark = builder.add_node([_MARKS.get(item.combine, item.combine)], "mark" if item.combine in _MARKS else "join")
    builder.add_edge(branch, mark)
    builder.add_edge(shortcut, mark, dashed=bool(item.shortcut))
    return _add_column(builder, item.after, mark, dashed=False, label="")


def _add_parallel(builder: _GraphBuilder, item: ParallelItem, last: str, *, dashed: bool) -> str:
    ends: list[str] = []
    for number, branch in enumerate(item.branches):
        first = f"n{builder.count + 1}"  # the id that the branch's first node will get
        start = ends[-1] if item.collect and ends else last
        end = _add_column(builder, branch, start, dashed=dashed, label="")
        if item.cascade and branch and number and item.branches[number - 1]:
            builder.add_edge(ends[-1], first)
        ends.append(end)
    join = builder.add_node([item.combine], "mark" if item.combine == "add" else "join")
    for end in ends:
        builder.add_edge(end, join)
    return join


def walk_nodes(clusters: Iterable[Cluster]) -> Iterator[Node]:
    """Yield every node of the clusters, and of those inside them."""
    for cluster in clusters:
        yield from cluster.nodes
        yield from walk_nodes(cluster.inner)
