"""Graphs in Mermaid, which GitHub, GitLab and many notebooks render from text."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.views.drawing.graph import Cluster, Edge, Graph, Node, walk_nodes
from resnet_spec.views.drawing.theme import DARK, LIGHT, Colours, Direction, Theme

_CONFIG = '%%{init: {"flowchart": {"curve": "basis", "padding": 10}}}%%'

_ENTITIES = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", "+": "#43;", "%": "#37;"})


def render_mermaid(graph: Graph, name: str, theme: Theme = "auto", direction: Direction = "down") -> str:
    """Return the text of a Mermaid flowchart."""
    orientation = "LR" if direction == "across" else "TB"
    lines = [_CONFIG, f"flowchart {orientation}", f"  %% {_escape(name)}"]
    for cluster in graph.clusters:
        lines += _cluster(cluster, orientation, "  ")
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    colours = DARK if theme == "dark" else LIGHT
    used = {node.kind for node in walk_nodes(graph.clusters)}
    lines += [f"  classDef {kind} {_style(kind, colours)}" for kind in sorted(used & colours.boxes.keys())]
    for cluster in graph.clusters:
        if cluster.title:
            lines.append(f"  style {cluster.id} {_style('frame', colours)}")
            lines += [f"  style {inner.id} {_style('block', colours)}" for inner in cluster.inner]
    return "\n".join(lines) + "\n"


def _cluster(cluster: Cluster, orientation: str, indent: str) -> Iterator[str]:
    inside = indent + "  " if cluster.title else indent
    if cluster.title:
        yield f'{indent}subgraph {cluster.id}["{_escape(cluster.title)}"]'
        yield f"{inside}direction {orientation}"
    for node in cluster.nodes:
        yield inside + _node(node)
    for inner in cluster.inner:
        yield from _cluster(inner, orientation, inside)
    if cluster.title:
        yield f"{indent}end"


def _node(node: Node) -> str:
    text = "<br>".join([_escape(node.lines[0]), *(f"<small>{_escape(line)}</small>" for line in node.lines[1:])])
    match node.kind:
        case "mark":
            return f'{node.id}(("{text}"))'
        case "end":
            return f'{node.id}(["{text}"])'
        case kind:
            return f'{node.id}("{text}"):::{kind}'


def _edge(edge: Edge) -> str:
    arrow = "-.->" if edge.dashed else "-->"
    label = f'|"{_escape(edge.label)}"|' if edge.label else ""
    return f"{edge.start} {arrow}{label} {edge.end}"


def _style(kind: str, colours: Colours) -> str:
    fill, line = colours.boxes[kind]
    return f"fill:{fill},stroke:{line},color:{colours.strong}"


def _escape(text: str) -> str:
    """Return text that may stand between quotes or in a comment, with Mermaid's entities for special characters.

    Among them is the percent sign: Mermaid obeys a directive, %%{init: ...}%%, wherever it stands in the text.
    """
    return text.translate(_ENTITIES)
