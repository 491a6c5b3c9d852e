"""Layout of stages as frames around their blocks, and of blocks as cards, open with their layers or closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from resnet_spec.network.costs import Cost
from resnet_spec.network.structure import Group
from resnet_spec.ops import Shape
from resnet_spec.views.drawing.diagram import Block, Frame, ResidualItem, summarize
from resnet_spec.views.drawing.figure import Box, Element, Line, Point, Text, translate
from resnet_spec.views.drawing.pieces import (
    FORK,
    GAP,
    LANE,
    SMALL_TEXT,
    Piece,
    arrow_down,
    format_dimensions,
    layout_column,
    text_width,
)
from resnet_spec.views.table import format_count

MAX_COLUMN_HEIGHT = 1100  # of the blocks in a frame; taller stages are laid out in several columns
HEADER_HEIGHT = 52
PADDING = 12
CARD_HEADER_HEIGHT = 22
PILE_OFFSET = 4  # between the cards in the pile of a folded block
TURN_OFFSET = 12  # from the bottom of a panel to the horizontal line that leads to the next


@dataclass(frozen=True, slots=True)
class Panel:
    """Elements placed from a top left corner, which hold a piece of the network.

    Attributes:
        entry_x: Where the spine enters at the top edge.
        exit: Where the spine leaves.
        output_shape: The shape of the map that leaves.
    """

    width: float
    height: float
    entry_x: float
    exit: Point
    output_shape: Shape
    elements: tuple[Element, ...]


def layout_frame(frame: Frame, costs: Mapping[str, Cost], depth: int | None = None) -> Panel:
    """Return a frame with its blocks: closed at depth 2, and at depth 1 only their number."""
    group = frame.group
    if not group.path:
        inside = _panel_of(layout_column(frame.blocks[0].column), group.output_shape)
    elif depth == 1:
        blocks = f"{len(group.parts)} block{'s' * (len(group.parts) > 1)}"
        inside = _panel_of(_text_box([blocks], group.path), group.output_shape)
    else:
        inside = _layout_blocks(frame.blocks, closed=depth == 2)
    subtitle = describe_costs(group, costs)
    width = max(inside.width, text_width(subtitle, SMALL_TEXT)) + 2 * PADDING
    shift = (width - inside.width) / 2
    height = HEADER_HEIGHT + inside.height + PADDING
    entry_x, exit_ = shift + inside.entry_x, (shift + inside.exit[0], height)
    elements = [
        Box(0, 0, width, height, "frame", group.path, 10),
        Text(PADDING, 15, group.name, "name", 13, "start", group.path),
        Text(PADDING, 31, subtitle, "note", SMALL_TEXT, "start", group.path),
        arrow_down(HEADER_HEIGHT - 13, HEADER_HEIGHT, entry_x),
        *translate(inside.elements, shift, HEADER_HEIGHT),
        Line(((exit_[0], HEADER_HEIGHT + inside.exit[1]), exit_)),
    ]
    return Panel(width, height, entry_x, exit_, group.output_shape, tuple(elements))


def describe_costs(group: Group, costs: Mapping[str, Cost]) -> str:
    """Return the parameters and MACs of a group in one line."""
    parts = [costs[part.path] for part in group.parts]
    parameters, macs = sum(cost.parameters for cost in parts), sum(cost.macs for cost in parts)
    return f"{format_count(parameters)} parameters · {format_count(macs)} MACs"


def layout_card(block: Block, piece: Piece) -> Panel:
    """Return a card around the piece that shows a block; if the block repeats, a pile of cards with their number."""
    part, times = block.parts[0], len(block.parts)
    width = piece.left + piece.right + 2 * PADDING
    height = CARD_HEADER_HEIGHT + piece.height + PADDING
    spine = PADDING + piece.left
    offsets = [PILE_OFFSET * n for n in range(min(times - 1, 2), 0, -1)]
    elements: list[Element] = [Box(offset, offset, width, height, "behind", "", 8) for offset in offsets]
    elements += [
        Box(0, 0, width, height, "block", part.path, 8),
        Text(8, 11, block.label, "path", SMALL_TEXT, "start", part.path),
        Line(((spine, 0), (spine, CARD_HEADER_HEIGHT))),
        *translate(piece.elements, spine, CARD_HEADER_HEIGHT),
        Line(((spine, CARD_HEADER_HEIGHT + piece.height), (spine, height))),
    ]
    if times > 1:
        elements.append(Text(width - 8, 11, f"× {times}", "count", 12, "end", part.path))
    pile = max(offsets, default=0)
    return Panel(width + pile, height + pile, spine, (spine, height), part.output_shape, tuple(elements))


def place_side_by_side(panels: Sequence[Panel], gap: float, *, shapes: bool = True) -> Panel:
    """Place panels in a row, with a line from the bottom of each, up between them, to the top of the next.

    Unless ``shapes`` is false, the shape that passes is written at the end of each line.
    """
    lefts = list(accumulate((panel.width + gap for panel in panels), initial=0.0))
    elements: list[Element] = []
    for panel, left in zip(panels, lefts, strict=False):
        elements += translate(panel.elements, left, 0)
    for (panel, next_panel), (left, next_left) in zip(pairwise(panels), pairwise(lefts), strict=False):
        x, y = left + panel.exit[0], panel.exit[1]
        below, between, above = panel.height + TURN_OFFSET, next_left - gap / 2, -gap / 2
        end = next_left + next_panel.entry_x
        points = ((x, y), (x, below), (between, below), (between, above), (end, above), (end, 0))
        elements.append(Line(points, arrow=True))
        if shapes:
            elements.append(shape_label(end, 0, panel.output_shape))
    last, left = panels[-1], lefts[-2]
    exit_ = (left + last.exit[0], last.exit[1])
    height = max(panel.height for panel in panels)
    return Panel(left + last.width, height, panels[0].entry_x, exit_, last.output_shape, tuple(elements))


def stack_vertically(panels: Sequence[Panel], gap: float) -> Panel:
    """Place panels one below the other on one spine, with an arrow from each to the next."""
    spine = max(panel.entry_x for panel in panels)
    tops = list(accumulate((panel.height + gap for panel in panels), initial=0.0))
    elements: list[Element] = []
    for panel, top in zip(panels, tops, strict=False):
        elements += translate(panel.elements, spine - panel.entry_x, top)
    for panel, (top, next_top) in zip(panels[:-1], pairwise(tops), strict=False):
        elements.append(Line(((spine, top + panel.exit[1]), (spine, next_top)), arrow=True))
    width = max(spine - panel.entry_x + panel.width for panel in panels)
    last, top = panels[-1], tops[-2]
    return Panel(width, top + last.height, spine, (spine, top + last.exit[1]), last.output_shape, tuple(elements))


def shape_label(x: float, y: float, shape: Shape) -> Text:
    """Return a shape as text beside the end of an arrow at (x, y)."""
    return Text(x + 7, y - 10, format_dimensions(shape), "shape", SMALL_TEXT, "start")


def _layout_blocks(blocks: Sequence[Block], *, closed: bool) -> Panel:
    """Place blocks one below the other, in as many columns as the maximal height requires."""
    pieces = [layout_closed_block(block) if closed else layout_column(block.column) for block in blocks]
    height = sum(piece.height + CARD_HEADER_HEIGHT + PADDING + GAP for piece in pieces)
    per_column = math.ceil(len(blocks) / math.ceil(height / MAX_COLUMN_HEIGHT))
    starts = range(0, len(blocks), per_column)
    stacks = [_stack_cards(blocks[at : at + per_column], pieces[at : at + per_column]) for at in starts]
    if len(stacks) == 1:
        return stacks[0]
    row = place_side_by_side(stacks, 2 * GAP, shapes=False)
    elements = (Line(((row.entry_x, 0), (row.entry_x, GAP))), *translate(row.elements, 0, GAP))
    exit_ = (row.exit[0], row.exit[1] + GAP)
    return Panel(row.width, row.height + GAP + TURN_OFFSET, row.entry_x, exit_, row.output_shape, elements)


def _stack_cards(blocks: Sequence[Block], pieces: Sequence[Piece]) -> Panel:
    """Place blocks on one spine, in cards of equal width."""
    left = max(min_left_extent(blocks), *(piece.left for piece in pieces))
    right = max(36, *(piece.right for piece in pieces))
    widened = [Piece(left, right, piece.height, piece.elements) for piece in pieces]
    return stack_vertically([layout_card(block, piece) for block, piece in zip(blocks, widened, strict=True)], GAP)


def min_left_extent(blocks: Sequence[Block]) -> float:
    """Return how far cards must extend left of the spine to leave room for the blocks' names."""
    return max(text_width(block.label, SMALL_TEXT) for block in blocks) - PADDING + 14


def _panel_of(piece: Piece, output_shape: Shape) -> Panel:
    elements = tuple(translate(piece.elements, piece.left, 0))
    exit_ = (piece.left, piece.height)
    return Panel(piece.left + piece.right, piece.height, piece.left, exit_, output_shape, elements)


def layout_closed_block(block: Block) -> Piece:
    """Return a box with a summary of a block, and beside it the shortcut of its first residual item, if it has one."""
    box = _text_box(summarize(block.column), block.parts[0].path)
    residual = next((item for item in block.column if isinstance(item, ResidualItem)), None)
    if residual is None:
        return box
    x, end = box.right + LANE - 2, box.height + 2 * FORK
    points = ((0, FORK / 2), (x, FORK / 2), (x, end - FORK / 2), (0, end - FORK / 2))
    elements = (
        Line(((0, 0), (0, FORK))),
        *translate(box.elements, 0, FORK),
        Line(((0, end - FORK), (0, end))),
        Line(points, dashed=bool(residual.shortcut), arrow=True),
    )
    return Piece(box.left, x + 2, end, elements)


def _text_box(lines: Sequence[str], path: str) -> Piece:
    half = max(text_width(line, SMALL_TEXT) for line in lines) / 2 + 10
    height = 14.0 * len(lines) + 8
    texts = [Text(0, 11 + 14 * n, line, "label", SMALL_TEXT, path=path) for n, line in enumerate(lines)]
    return Piece(half, half, height, (Box(-half, 0, 2 * half, height, "closed", path), *texts))
