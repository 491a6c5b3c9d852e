"""Graphs in the DOT language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.views.drawing.graph import Cluster, Edge, Graph, Node
from resnet_spec.views.drawing.theme import DARK, LIGHT, Colours, Direction, Theme


def render_dot(graph: Graph, name: str, theme: Theme = "auto", direction: Direction = "down") -> str:
    """Return the text of a DOT file."""
    colours = DARK if theme == "dark" else LIGHT
    rankdir = "LR" if direction == "across" else "TB"
    graph_style = f'rankdir={rankdir}, bgcolor="{colours.page}", fontname="Helvetica", fontcolor="{colours.strong}"'
    edge_style = f'color="{colours.line}", fontcolor="{colours.muted}", fontname="Helvetica"'
    lines = [
        f"digraph {_quote(name)} {{",
        f"  graph [{graph_style}, ranksep=0.3]",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, height=0.3, margin="0.12,0.06"]',
        f"  edge [{edge_style}, fontsize=9, arrowsize=0.7]",
    ]
    for cluster in graph.clusters:
        lines += _cluster(cluster, colours, "  ")
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(cluster: Cluster, colours: Colours, indent: str) -> Iterator[str]:
    inside = indent + "  " if cluster.title else indent
    if cluster.title:
        # The id of a block's cluster is s0b1, that of a stage's is s0.
        fill, line = colours.boxes["block" if "b" in cluster.id else "frame"]
        yield f"{indent}subgraph cluster_{cluster.id} {{"
        yield f'{inside}label={_quote(cluster.title)}; labeljust=l; style="rounded,filled"'
        yield f'{inside}fillcolor="{fill}"; color="{line}"'
    for node in cluster.nodes:
        yield inside + _node(node, colours)
    for inner in cluster.inner:
        yield from _cluster(inner, colours, inside)
    if cluster.title:
        yield f"{indent}}}"


def _node(node: Node, colours: Colours) -> str:
    label = _quote("\n".join(node.lines))
    fill, line = colours.boxes.get(node.kind, (colours.page, colours.line))
    style = f'label={label}, fillcolor="{fill}", color="{line}", fontcolor="{colours.strong}"'
    circle = ", shape=circle, fixedsize=true, width=0.25, height=0.25" if node.kind == "mark" else ""
    return f"{node.id} [{style}{circle}]"


def _edge(edge: Edge) -> str:
    style = [*(["style=dashed"] if edge.dashed else []), *([f"label={_quote(edge.label)}"] if edge.label else [])]
    return f"{edge.start} -> {edge.end}" + (f" [{', '.join(style)}]" if style else "")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'
