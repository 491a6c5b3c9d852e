"""A diagram in Graphviz's language."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.views.drawing.graph import Cluster, Edge, Graph, Node
from resnet_spec.views.drawing.theme import DARK, LIGHT, Colours, Direction, Theme


def render_dot(graph: Graph, name: str, theme: Theme = "auto", direction: Direction = "down") -> str:
    """The text of a graph."""
    way = "LR" if direction == "across" else "TB"
    colours = DARK if theme == "dark" else LIGHT
    lines = [
        f"digraph {_quoted(name)} {{",
        f'  graph [rankdir={way}, bgcolor="{colours.page}", fontname="Helvetica", fontcolor="{colours.strong}", ranksep=0.3]',
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, height=0.3, margin="0.12,0.06"]',
        f'  edge [color="{colours.line}", fontcolor="{colours.muted}", fontname="Helvetica", fontsize=9, arrowsize=0.7]',
    ]
    for cluster in graph.clusters:
        lines += _cluster(cluster, colours, "  ")
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(cluster: Cluster, colours: Colours, indent: str) -> Iterator[str]:
    inside = indent + "  " if cluster.title else indent
    if cluster.title:
        fill, line = colours.boxes["block" if "b" in cluster.id else "frame"]
        yield f"{indent}subgraph cluster_{cluster.id} {{"
        yield f'{inside}label={_quoted(cluster.title)}; labeljust=l; style="rounded,filled"'
        yield f'{inside}fillcolor="{fill}"; color="{line}"'
    for node in cluster.nodes:
        yield inside + _node(node, colours)
    for inner in cluster.inner:
        yield from _cluster(inner, colours, inside)
    if cluster.title:
        yield f"{indent}}}"


def _node(node: Node, colours: Colours) -> str:
    label = _quoted("\n".join(node.lines))
    fill, line = colours.boxes.get(node.kind, (colours.page, colours.line))
    look = f'label={label}, fillcolor="{fill}", color="{line}", fontcolor="{colours.strong}"'
    round_ = ", shape=circle, fixedsize=true, width=0.25, height=0.25" if node.kind == "mark" else ""
    return f"{node.id} [{look}{round_}]"


def _edge(edge: Edge) -> str:
    look = [*(["style=dashed"] if edge.dashed else []), *([f"label={_quoted(edge.label)}"] if edge.label else [])]
    return f"{edge.start} -> {edge.end}" + (f" [{', '.join(look)}]" if look else "")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'
