"""A stage as a frame about its blocks; blocks as cards with their layers in them, or closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from resnet_spec.network.costs import Cost
from resnet_spec.ops import Shape as Size
from resnet_spec.views.drawing.diagram import Block, Frame, ResidualItem, summarize
from resnet_spec.views.drawing.figure import Box, Element, Line, Text, translate
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

MAX_COLUMN_HEIGHT = 1100  # pixels down, at which a frame's blocks go on beside
HEADER_HEIGHT = 52
PADDING = 12
CARD_HEADER_HEIGHT = 22  # of a card, for its name
PILE_OFFSET = 4  # how far each card of a folded block shows behind the one before
TURN_OFFSET = 12  # from the end of a spine to where a line beside it turns


@dataclass(frozen=True, slots=True)
class Panel:
    """Shapes from a top left corner. The spine enters at the top, ``enters`` from the left, and leaves at ``leaves``."""

    width: float
    height: float
    enters: float
    leaves: tuple[float, float]
    output_shape: Size
    shapes: tuple[Element, ...]


def layout_frame(frame: Frame, costs: dict[str, Cost], depth: int | None = None) -> Panel:
    """A frame with its blocks: none of them open at depth 2, a stage's not drawn at depth 1."""
    group = frame.group
    blocks = f"{len(group.parts)} block{'s' * (len(group.parts) > 1)}"
    if not group.path:
        inside = _panel_of(layout_column(frame.blocks[0].column), group.output_shape)
    elif depth == 1:
        inside = _panel_of(_text_box([blocks], group.path), group.output_shape)
    else:
        inside = _layout_blocks(frame.blocks, shut=depth == 2)
    found = [costs[part.path] for part in group.parts]
    about = f"{format_count(sum(cost.parameters for cost in found))} parameters · {format_count(sum(cost.macs for cost in found))} MACs"
    width = max(inside.width, text_width(about, SMALL_TEXT)) + 2 * PADDING
    shift = (width - inside.width) / 2
    height = HEADER_HEIGHT + inside.height + PADDING
    leaves = (shift + inside.leaves[0], height)
    shapes = [
        Box(0, 0, width, height, "frame", group.path, 10),
        Text(PADDING, 15, group.name, "name", 13, "start", group.path),
        Text(PADDING, 31, about, "note", SMALL_TEXT, "start", group.path),
        arrow_down(HEADER_HEIGHT - 13, HEADER_HEIGHT, shift + inside.enters),
        *translate(inside.shapes, shift, HEADER_HEIGHT),
        Line(((leaves[0], HEADER_HEIGHT + inside.leaves[1]), leaves)),
    ]
    return Panel(width, height, shift + inside.enters, leaves, group.output_shape, tuple(shapes))


def layout_card(block: Block, piece: Piece) -> Panel:
    """A block as a card about a piece; of blocks that repeat, a pile of cards with their count."""
    part, times = block.parts[0], len(block.parts)
    width = piece.left + piece.right + 2 * PADDING
    height = CARD_HEADER_HEIGHT + piece.height + PADDING
    spine = PADDING + piece.left
    behind = range(min(times - 1, 2), 0, -1)
    shapes: list[Element] = [Box(PILE_OFFSET * n, PILE_OFFSET * n, width, height, "behind", "", 8) for n in behind]
    shapes += [
        Box(0, 0, width, height, "block", part.path, 8),
        Text(8, 11, block.name, "path", SMALL_TEXT, "start", part.path),
        Line(((spine, 0), (spine, CARD_HEADER_HEIGHT))),
        *translate(piece.shapes, spine, CARD_HEADER_HEIGHT),
        Line(((spine, CARD_HEADER_HEIGHT + piece.height), (spine, height))),
    ]
    if times > 1:
        shapes.append(Text(width - 8, 11, f"× {times}", "count", 12, "end", part.path))
    deep = PILE_OFFSET * len(behind)
    return Panel(width + deep, height + deep, spine, (spine, height), part.output_shape, tuple(shapes))


def place_side_by_side(row: Sequence[Panel], between: float, *, sizes: bool = True) -> Panel:
    """Side by side: each joined to the next by a line from its end, up between them, to the other's start."""
    lefts = list(accumulate((one.width + between for one in row), initial=0.0))
    shapes: list[Element] = []
    for one, left in zip(row, lefts, strict=False):
        shapes += translate(one.shapes, left, 0)
    for (one, two), (left, right) in zip(pairwise(row), pairwise(lefts), strict=False):
        x, y = left + one.leaves[0], one.leaves[1]
        turn, over, to = right - between / 2, -between / 2, right + two.enters
        points = (
            (x, y),
            (x, one.height + TURN_OFFSET),
            (turn, one.height + TURN_OFFSET),
            (turn, over),
            (to, over),
            (to, 0),
        )
        shapes += [Line(points, arrow=True), *([shape_label(to, 0, one.output_shape)] if sizes else [])]
    last, left = row[-1], lefts[-2]
    leaves = (left + last.leaves[0], last.leaves[1])
    height = max(one.height for one in row)
    return Panel(left + last.width, height, row[0].enters, leaves, last.output_shape, tuple(shapes))


def stack_vertically(stack: Sequence[Panel], gap: float) -> Panel:
    """One below the other, on one spine."""
    spine = max(one.enters for one in stack)
    tops = list(accumulate((one.height + gap for one in stack), initial=0.0))
    shapes: list[Element] = []
    for one, top in zip(stack, tops, strict=False):
        shapes += translate(one.shapes, spine - one.enters, top)
    for (one, _), (top, next_) in zip(pairwise(stack), pairwise(tops), strict=False):
        shapes.append(Line(((spine, top + one.leaves[1]), (spine, next_)), arrow=True))
    width = max(spine - one.enters + one.width for one in stack)
    end = tops[-2] + stack[-1].leaves[1]
    height = tops[-2] + stack[-1].height
    return Panel(width, height, spine, (spine, end), stack[-1].output_shape, tuple(shapes))


def shape_label(x: float, y: float, shape: Size) -> Text:
    """A shape beside an arrow that ends at a place."""
    return Text(x + 7, y - 10, format_dimensions(shape), "shape", SMALL_TEXT, "start")


def _layout_blocks(blocks: Sequence[Block], *, shut: bool) -> Panel:
    """Blocks one below the other, in as many columns as keep the frame from growing too tall."""
    pieces = [layout_closed_block(block) if shut else layout_column(block.column) for block in blocks]
    tall = sum(piece.height + CARD_HEADER_HEIGHT + PADDING + GAP for piece in pieces)
    most = -(-len(blocks) // int(-(-tall // MAX_COLUMN_HEIGHT)))
    stacks = [_stack_cards(blocks[at : at + most], pieces[at : at + most]) for at in range(0, len(blocks), most)]
    if len(stacks) == 1:
        return stacks[0]
    row = place_side_by_side(stacks, 2 * GAP, sizes=False)
    leaves = (row.leaves[0], row.leaves[1] + GAP)
    shapes = (Line(((row.enters, 0), (row.enters, GAP))), *translate(row.shapes, 0, GAP))
    return Panel(row.width, row.height + GAP + TURN_OFFSET, row.enters, leaves, row.output_shape, shapes)


def _stack_cards(blocks: Sequence[Block], pieces: Sequence[Piece]) -> Panel:
    """Blocks on one spine, their cards of one width."""
    left, right = (
        max(min_left_extent(blocks), *(piece.left for piece in pieces)),
        max(36, *(piece.right for piece in pieces)),
    )
    alike = [Piece(left, right, piece.height, piece.shapes) for piece in pieces]
    return stack_vertically([layout_card(block, piece) for block, piece in zip(blocks, alike, strict=True)], GAP)


def min_left_extent(blocks: Sequence[Block]) -> float:
    """How far cards reach to the left at least: a block's name stands there, beside the spine."""
    return max(text_width(block.name, SMALL_TEXT) for block in blocks) - PADDING + 14


def _panel_of(piece: Piece, output_shape: Size) -> Panel:
    shapes = tuple(translate(piece.shapes, piece.left, 0))
    return Panel(piece.left + piece.right, piece.height, piece.left, (piece.left, piece.height), output_shape, shapes)


def layout_closed_block(block: Block) -> Piece:
    """What a block holds, as the paper's table has it, and its shortcut beside."""
    card = _text_box(list(summarize(block.column)), block.parts[0].path)
    splits = [item for item in block.column if isinstance(item, ResidualItem)]
    if not splits:
        return card
    x, ends = card.right + LANE - 2, card.height + 2 * FORK
    way = Line(
        ((0, FORK / 2), (x, FORK / 2), (x, ends - FORK / 2), (0, ends - FORK / 2)), bool(splits[0].shortcut), True
    )
    shapes = (Line(((0, 0), (0, FORK))), *translate(card.shapes, 0, FORK), Line(((0, ends - FORK), (0, ends))), way)
    return Piece(card.left, x + 2, ends, shapes)


def _text_box(lines: Sequence[str], path: str) -> Piece:
    half = max(text_width(line, SMALL_TEXT) for line in lines) / 2 + 10
    height = 14.0 * len(lines) + 8
    texts = [Text(0, 11 + 14 * n, line, "label", SMALL_TEXT, path=path) for n, line in enumerate(lines)]
    return Piece(half, half, height, (Box(-half, 0, 2 * half, height, "closed", path), *texts))
