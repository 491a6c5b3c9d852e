"""The rich display of a network in notebooks: its drawing, and below it a table that opens on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from resnet_spec.diagnostics.problems import one_line
from resnet_spec.network.network import Network
from resnet_spec.views.drawing.render import draw
from resnet_spec.views.drawing.svg import css_rules
from resnet_spec.views.drawing.theme import DARK, LIGHT
from resnet_spec.views.table import (
    COLUMNS,
    DEFAULT_COLUMNS,
    MACS_NOTE,
    NUMERIC_COLUMNS,
    build_table,
    format_count,
    format_shape,
    format_value,
)

LIGHT_NOTEBOOKS = ('[data-jp-theme-light="true"] ', ".vscode-light ", 'html[theme="light"] ')
DARK_NOTEBOOKS = ('[data-jp-theme-light="false"] ', ".vscode-dark ", 'html[theme="dark"] ')
"""CSS selectors for the themes of JupyterLab, VS Code and Colab. Elsewhere a drawing follows the system's theme."""


def render_text(network: Network) -> str:
    """Return a network's costs and shapes in one line.

    >>> from resnet_spec import load
    >>> render_text(load("resnet18"))
    'resnet18: 11.7 M parameters, 1.81 G MACs, 3x224x224 to 1000'
    """
    costs = f"{format_count(network.parameters)} parameters, {format_count(network.macs)} MACs"
    return f"{one_line(network.name)}: {costs}, {format_shape(network.input)} to {format_shape(network.output_shape)}"


def render_html(network: Network) -> str:
    """Return the drawing, and below it the table, closed at first."""
    themes = [
        *(rule for selector in LIGHT_NOTEBOOKS for rule in css_rules(LIGHT, selector)),
        *(rule for selector in DARK_NOTEBOOKS for rule in css_rules(DARK, selector)),
    ]
    return "\n".join(
        [
            '<div class="resnet-spec">',
            "<style>",
            *themes,
            ".resnet-spec svg { max-width: 100%; height: auto }",
            ".resnet-spec td, .resnet-spec th { padding: 1px 8px; text-align: left; white-space: nowrap }",
            ".resnet-spec .number { text-align: right; font-variant-numeric: tabular-nums }",
            "</style>",
            draw(network, "svg").decode(),
            f"<details><summary>{escape(render_text(network))}</summary>",
            *_render_table(network),
            "</details>",
            "</div>",
        ]
    )


def render_mime_bundle(network: Network) -> dict[str, str]:
    """Return all representations that a front end may choose from, by MIME type."""
    return {
        "text/plain": render_text(network),
        "text/html": render_html(network),
        "image/svg+xml": draw(network, "svg").decode(),
    }


def _render_table(network: Network) -> Iterator[str]:
    table = build_table(network)
    head = _render_cells(COLUMNS, "th")
    yield f"<table><caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>"
    for row in table.rows:
        values = {name: format_value(name, row.values[name]) for name in DEFAULT_COLUMNS}
        values["path"] = "\u2003" * (row.depth - 1) + values["path"]
        yield f"<tr>{_render_cells(values, 'td')}</tr>"
    total = table.total or {}
    totals = {name: format_value(name, total.get(name)) for name in DEFAULT_COLUMNS}
    yield f"<tr>{_render_cells(totals, 'th')}</tr></tbody></table>"
    yield f"<p>{MACS_NOTE}</p>"


def _render_cells(values: Mapping[str, str], tag: str) -> str:
    classes = {name: ' class="number"' if name in NUMERIC_COLUMNS else "" for name in DEFAULT_COLUMNS}
    return "".join(f"<{tag}{classes[name]}>{escape(values[name])}</{tag}>" for name in DEFAULT_COLUMNS)
