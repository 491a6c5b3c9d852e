"""A network to the bytes of a drawing, in any of the formats."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias, assert_never, get_args

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
    form: Format,
    *,
    theme: Theme = "auto",
    depth: int | None = None,
    unfold: bool = False,
    direction: Direction | None = None,
) -> bytes:
    """A file's content: stages at depth 1, blocks at depth 2, else every layer; repeated blocks folded, unless ``unfold``.

    The theme "auto" follows the reader's system where the format can, and is light elsewhere. Raises ValueError where what the
    format needs is not installed.

    >>> from resnet_spec import load
    >>> draw(load("resnet18"), "mmd", depth=1).decode().splitlines()[1]
    'flowchart TB'
    """
    match form:
        case "svg":
            drawn = layout_figure(network, depth=depth, unfold=unfold, direction=direction or "across")
            return render_svg(drawn, theme, part_titles(network), f"the layers of {network.name}").encode()
        case "png" | "pdf":
            return _draw_with_matplotlib(network, form, theme, depth, unfold, direction or "across")
        case "mmd":
            graph_ = build_graph(build_diagram(network, unfold=unfold), network.input, depth)
            return render_mermaid(graph_, network.name, theme, direction or "down").encode()
        case "dot":
            graph_ = build_graph(build_diagram(network, unfold=unfold), network.input, depth)
            return render_dot(graph_, network.name, theme, direction or "down").encode()
        case _:
            assert_never(form)


def part_titles(network: Network) -> dict[str, str]:
    """What there is to say of each part in a line, by path."""
    found = compute_costs(network)
    return {
        part.path: f"{part.path}: {format_shape(part.input_shape)} to {format_shape(part.output_shape)}, "
        f"{found[part.path].parameters:,} parameters, {found[part.path].macs:,} MACs"
        for part in network.nodes()
    }


def require_package(package: str, what: str, extra: str) -> None:
    """Raise ValueError where a package is missing that something needs."""
    if find_spec(package) is None:
        raise ValueError(f"{what} needs {package}, which is not installed; try: pip install 'resnet-spec[{extra}]'")


def _draw_with_matplotlib(
    network: Network, form: Literal["png", "pdf"], theme: Theme, depth: int | None, unfold: bool, direction: Direction
) -> bytes:
    require_package("matplotlib", f"a drawing as {form.upper()}", "draw")
    from resnet_spec.views.drawing.matplotlib_renderer import (
        render_matplotlib,  # here, since matplotlib takes half a second to import
    )

    return render_matplotlib(layout_figure(network, depth=depth, unfold=unfold, direction=direction), form, theme)
