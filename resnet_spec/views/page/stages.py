"""The drawing of a page, as HTML: a frame for each stage, in it a card for each block, closed and open, for the reader to choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import escape

from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.views.drawing.diagram import Block, Frame, build_diagram
from resnet_spec.views.drawing.figure import Element, Line, Text, translate
from resnet_spec.views.drawing.frames import layout_card, layout_closed_block, min_left_extent
from resnet_spec.views.drawing.pieces import Piece, format_dimensions, layout_column
from resnet_spec.views.drawing.svg import render_elements
from resnet_spec.views.table import format_count

TOGGLE_WIDTH = 14  # pixels, before a block's name


def render_stages(network: Network) -> str:
    """The elements of a drawing: each that shows a part carries its path in ``data-path``."""
    found = compute_costs(network)
    input_shape = network.input
    lines: list[str] = []
    for frame in build_diagram(network):
        lines += _render_frame(frame, found, format_dimensions(input_shape))
        input_shape = frame.group.output_shape  # type: ignore[assignment]
    return "\n".join([*lines, f'<div class="output">{format_dimensions(input_shape)}</div>'])


def _render_frame(frame: Frame, found: dict[str, Cost], input_shape: str) -> Iterator[str]:
    group = frame.group
    parts = [found[part.path] for part in group.parts]
    about = f"{format_count(sum(cost.parameters for cost in parts))} parameters · {format_count(sum(cost.macs for cost in parts))} MACs"
    path = f' data-path="{escape(group.path)}"' if group.path else ""
    yield f'<section class="stage"{path}><div class="into">{input_shape}</div><div class="frame"{path}>'
    times = f'<span class="times">{len(group.parts)} ×</span>' if group.path else ""
    toggle = _render_toggle(group.path) if group.path else ""
    yield f"<header{path}>{toggle}<b>{escape(group.name)}</b>{times}<small>{about}</small></header>"
    yield '<div class="blocks">'
    if group.path:
        yield from _render_blocks(frame)
    else:
        piece = layout_column(frame.blocks[0].column)
        tail = (Line(((0, -10), (0, 0)), arrow=True), *piece.shapes, Line(((0, piece.height), (0, piece.height + 10))))
        yield _render_svg(piece.left + piece.right, piece.height + 20, translate(tail, piece.left, 10))
    yield "</div></div></section>"


def _render_blocks(frame: Frame) -> Iterator[str]:
    """A card for each block, or for several alike; all of a stage on one spine, closed or open."""
    pieces = [(layout_closed_block(block), layout_column(block.column)) for block in frame.blocks]
    left = max(min_left_extent(frame.blocks) + TOGGLE_WIDTH, *(piece.left for both in pieces for piece in both))
    widths = [max(54.0, *(both[state].right for both in pieces)) for state in (0, 1)]
    for block, both in zip(frame.blocks, pieces, strict=True):
        first, times = block.parts[0].path, len(block.parts)
        fold = f'<button class="fold" type="button" aria-expanded="false">× {times}</button>' if times > 1 else ""
        name = f"<b>{escape(block.name)}</b>"
        states = [replace(piece, left=left, right=right) for piece, right in zip(both, widths, strict=True)]
        drawn = [_render_card(block, piece, state) for piece, state in zip(states, ("closed", "open"), strict=True)]
        yield (
            f'<div class="block" data-path="{escape(first)}" style="--spine: {left + 12:.1f}px">'
            f"<header>{_render_toggle(first)}{name}{fold}</header>{''.join(drawn)}</div>"
        )


def _render_card(block: Block, piece: Piece, state: str) -> str:
    placed = layout_card(block, piece)
    shapes = [shape for shape in placed.shapes if not (isinstance(shape, Text) and shape.kind in ("path", "count"))]
    return _render_svg(placed.width, placed.height, shapes, state)


def _render_svg(width: float, height: float, shapes: list[Element], state: str = "") -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="-1 -1 {width + 2:.0f} {height + 2:.0f}"'
    return f'<svg {size} class="{state}" role="presentation">{"".join(render_elements(shapes))}</svg>'


def _render_toggle(path: str) -> str:
    return f'<button class="toggle" type="button" data-toggle="{escape(path)}" aria-label="open or close {escape(path)}"></button>'
