"""Draw a network in any of the supported file formats."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Literal, TypeAlias, assert_never, get_args

from resnet_spec.diagnostics.problems import one_line
from resnet_spec.network.costs import compute_costs
from resnet_spec.network.network import Network
from resnet_spec.views.drawing.diagram import build_diagram
from resnet_spec.views.drawing.dot import render_dot
from resnet_spec.views.drawing.graph import build_graph
from resnet_spec.views.drawing.layout import layout_figure
from resnet_spec.views.drawing.mermaid import render_mermaid
from resnet_spec.views.drawing.svg import render_svg
from resnet_spec.views.drawing.theme import Direction, Theme
from resnet_spec.views.table import format_shape

Format: TypeAlias = Literal["svg", "png", "pdf", "mmd", "dot"]
FORMATS: tuple[Format, ...] = get_args(Format)


def draw(
    network: Network,
    file_format: Format,
    *,
    theme: Theme = "auto",
    depth: int | None = None,
    unfold: bool = False,
    direction: Direction | None = None,
) -> bytes:
    """Return the contents of a file with a drawing of a network.

    Args:
        theme: The colours. With "auto" an SVG follows the system of its reader, and the other formats are light.
        depth: 1 draws stages, 2 draws blocks; with other values every layer is drawn.
        unfold: Whether to draw each of several equal blocks, and not one of them with their number.
        direction: How stages follow each other; by default across in SVG, PNG and PDF, down in Mermaid and Graphviz.

    Raises:
        ValueError: If a package that the format needs is not installed.

    >>> from resnet_spec import load
    >>> draw(load("resnet18"), "mmd", depth=1).decode().splitlines()[1]
    'flowchart TB'
    """
    network = replace(network, name=one_line(network.name))
    match file_format:
        case "svg":
            figure = layout_figure(network, depth=depth, unfold=unfold, direction=direction or "across")
            return render_svg(figure, theme, part_titles(network), f"the layers of {network.name}").encode()
        case "png" | "pdf":
            require_package("matplotlib", f"a drawing as {file_format.upper()}", "draw")
            from resnet_spec.views.drawing import matplotlib_renderer  # here: matplotlib takes half a second to import

            figure = layout_figure(network, depth=depth, unfold=unfold, direction=direction or "across")
            return matplotlib_renderer.render_matplotlib(figure, file_format, theme)
        case "mmd":
            graph = build_graph(build_diagram(network, unfold=unfold), network.input, depth)
            return render_mermaid(graph, network.name, theme, direction or "down").encode()
        case "dot":
            graph = build_graph(build_diagram(network, unfold=unfold), network.input, depth)
            return render_dot(graph, network.name, theme, direction or "down").encode()
        case _:
            assert_never(file_format)


def part_titles(network: Network) -> dict[str, str]:
    """Return the shapes and costs of every part in one line, by path."""
    costs = compute_costs(network)
    return {
        part.path: f"{part.path}: {format_shape(part.input_shape)} to {format_shape(part.output_shape)}, "
        f"{costs[part.path].parameters:,} parameters, {costs[part.path].macs:,} MACs"
        for part in network.nodes()
    }


def require_package(package: str, feature: str, extra: str) -> None:
    """Raise ValueError if a package that a feature needs is not installed. ``extra`` is what pip installs it with."""
    if find_spec(package) is None:
        raise ValueError(f"{feature} needs {package}, which is not installed; try: pip install 'resnet-spec[{extra}]'")
