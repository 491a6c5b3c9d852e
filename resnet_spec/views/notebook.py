"""A network as notebooks show it: its drawing, and its table to open below."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from resnet_spec.network.network import Network
from resnet_spec.views.drawing.layout import layout_figure
from resnet_spec.views.drawing.render import draw, part_titles
from resnet_spec.views.drawing.svg import css_rules, render_svg
from resnet_spec.views.drawing.theme import DARK, LIGHT
from resnet_spec.views.table import (
    COLUMNS,
    DEFAULT_COLUMNS,
    NUMERIC_COLUMNS,
    Row,
    build_table,
    format_count,
    format_shape,
    format_value,
)

LIGHT_NOTEBOOKS = ('[data-jp-theme-light="true"] ', ".vscode-light ", 'html[theme="light"] ')
DARK_NOTEBOOKS = ('[data-jp-theme-light="false"] ', ".vscode-dark ", 'html[theme="dark"] ')
"""How JupyterLab, VS Code and Colab say which theme they are in; elsewhere it is the system's."""


def render_text(network: Network) -> str:
    """A network in a line.

    >>> from resnet_spec import load
    >>> render_text(load("resnet18"))
    'resnet18: 11.7 M parameters, 1.81 G MACs, 3x224x224 to 1000'
    """
    costs = f"{format_count(network.parameters)} parameters, {format_count(network.macs)} MACs"
    return f"{network.name}: {costs}, {format_shape(network.input)} to {format_shape(network.output_shape)}"


def render_html(network: Network) -> str:
    """The drawing, and the table beneath it, closed until it is asked for."""
    themes = [
        *(rule for within in LIGHT_NOTEBOOKS for rule in css_rules(LIGHT, within)),
        *(rule for within in DARK_NOTEBOOKS for rule in css_rules(DARK, within)),
    ]
    drawn = render_svg(layout_figure(network), "auto", part_titles(network), f"the layers of {network.name}")
    return "\n".join(
        [
            '<div class="resnet-spec">',
            "<style>",
            *themes,
            ".resnet-spec svg { max-width: 100%; height: auto }",
            ".resnet-spec td, .resnet-spec th { padding: 1px 8px; text-align: left; white-space: nowrap }",
            ".resnet-spec .number { text-align: right; font-variant-numeric: tabular-nums }",
            "</style>",
            drawn,
            f"<details><summary>{escape(render_text(network))}</summary>",
            *_render_table(network),
            "</details>",
            "</div>",
        ]
    )


def render_mime_bundle(network: Network) -> dict[str, str]:
    """Every form that a front end may choose from, by its kind."""
    return {
        "text/plain": render_text(network),
        "text/html": render_html(network),
        "image/svg+xml": draw(network, "svg").decode(),
    }


def _render_table(network: Network) -> Iterable[str]:
    found = build_table(network)
    yield f"<table><caption>{escape(found.title)}</caption><thead><tr>{_render_cells(COLUMNS, 'th')}</tr></thead><tbody>"
    for row in found.rows:
        values = {name: format_value(name, row.values[name]) for name in DEFAULT_COLUMNS}
        values["path"] = _indent_path(row)
        yield f"<tr>{_render_cells(values, 'td')}</tr>"
    total = found.total or {}
    yield f"<tr>{_render_cells({name: format_value(name, total.get(name)) for name in DEFAULT_COLUMNS}, 'th')}</tr></tbody></table>"
    yield "<p>MACs: multiplications with addition in convolutions and matrix products; FLOPs = 2 x MACs</p>"


def _indent_path(row: Row) -> str:
    return "\u2003" * (row.depth - 1) + str(row.values["path"])


def _render_cells(values: dict[str, str], tag: str) -> str:
    looks = {name: ' class="number"' if name in NUMERIC_COLUMNS else "" for name in DEFAULT_COLUMNS}
    return "".join(f"<{tag}{looks[name]}>{escape(values[name])}</{tag}>" for name in DEFAULT_COLUMNS)
