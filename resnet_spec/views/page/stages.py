"""The drawing of a page as HTML: a frame for each stage, with a card for each block, both closed and open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.views.drawing.diagram import Block, Frame, build_diagram
from resnet_spec.views.drawing.figure import Element, Line, Text, translate
from resnet_spec.views.drawing.frames import describe_costs, layout_card, layout_closed_block, min_left_extent
from resnet_spec.views.drawing.pieces import Piece, format_dimensions, layout_column
from resnet_spec.views.drawing.svg import render_elements

TOGGLE_WIDTH = 14  # of the button in front of a block's name, in pixels


def render_stages(network: Network) -> str:
    """Return the HTML of a drawing. Elements that show a part of the network have its path in ``data-path``."""
    costs = compute_costs(network)
    shape: Shape = network.input
    lines: list[str] = []
    for frame in build_diagram(network):
        lines += _render_frame(frame, costs, format_dimensions(shape))
        shape = frame.group.output_shape
    return "\n".join([*lines, f'<div class="output">{format_dimensions(shape)}</div>'])


def _render_frame(frame: Frame, costs: Mapping[str, Cost], input_shape: str) -> Iterator[str]:
    group = frame.group
    path = f' data-path="{escape(group.path)}"' if group.path else ""
    yield f'<section class="stage"{path}><div class="into">{input_shape}</div><div class="frame"{path}>'
    toggle = _render_toggle(group.path) if group.path else ""
    times = f'<span class="times">{len(group.parts)} ×</span>' if group.path else ""
    subtitle = f"<small>{describe_costs(group, costs)}</small>"
    yield f"<header{path}>{toggle}<b>{escape(group.name)}</b>{times}{subtitle}</header>"
    yield '<div class="blocks">'
    if group.path:
        yield from _render_blocks(frame)
    else:
        piece = layout_column(frame.blocks[0].column)
        height = piece.height
        spine = (Line(((0, -10), (0, 0)), arrow=True), *piece.elements, Line(((0, height), (0, height + 10))))
        yield _render_svg(piece.left + piece.right, height + 20, translate(spine, piece.left, 10))
    yield "</div></div></section>"


def _render_blocks(frame: Frame) -> Iterator[str]:
    """Yield a card for each block or run of equal blocks. All cards of a stage have one spine, closed or open."""
    pieces = [(layout_closed_block(block), layout_column(block.column)) for block in frame.blocks]
    left = max(min_left_extent(frame.blocks) + TOGGLE_WIDTH, *(piece.left for pair in pieces for piece in pair))
    rights = [max(54.0, *(pair[state].right for pair in pieces)) for state in (0, 1)]
    for block, pair in zip(frame.blocks, pieces, strict=True):
        path, times = block.parts[0].path, len(block.parts)
        fold = f'<button class="fold" type="button" aria-expanded="false">× {times}</button>' if times > 1 else ""
        name = f"<b>{escape(block.name)}</b>"
        states = zip(pair, rights, ("closed", "open"), strict=True)
        cards = [_render_card(block, replace(piece, left=left, right=right), state) for piece, right, state in states]
        yield (
            f'<div class="block" data-path="{escape(path)}" style="--spine: {left + 12:.1f}px">'
            f"<header>{_render_toggle(path)}{name}{fold}</header>{''.join(cards)}</div>"
        )


def _render_card(block: Block, piece: Piece, state: str) -> str:
    card = layout_card(block, piece)
    # The name and the count of a block are HTML in the header, so that the script can change them.
    elements = [
        element for element in card.elements if not (isinstance(element, Text) and element.kind in ("path", "count"))
    ]
    return _render_svg(card.width, card.height, elements, state)


def _render_svg(width: float, height: float, elements: Sequence[Element], state: str = "") -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="-1 -1 {width + 2:.0f} {height + 2:.0f}"'
    return f'<svg {size} class="{state}" role="presentation">{"".join(render_elements(elements))}</svg>'


def _render_toggle(path: str) -> str:
    label = f'aria-label="open or close {escape(path)}"'
    return f'<button class="toggle" type="button" data-toggle="{escape(path)}" {label}></button>'
