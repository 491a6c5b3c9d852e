"""Items to pieces of a figure: cells below each other on a spine, shortcuts beside them.

A piece's spine is at x = 0: what it is given enters at its top, y = 0, and what it gives leaves at its bottom, y = height. Positions follow
from the tree by recursion, since branch and shortcut always part and meet: a general layout engine would have to find that out again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, assert_never

from resnet_spec.ops import Shape as Size
from resnet_spec.views.drawing.diagram import Cell, Column, Item, ParallelItem, ResidualItem, format_label
from resnet_spec.views.drawing.figure import MARK_RADIUS, Box, Element, Line, Mark, Text, translate

GAP = 18  # between a cell and the next
FORK = 8  # of the spine, before it forks
LANE = 14  # between the cells and a shortcut beside them
PADDING = 9
LARGE_TEXT, SMALL_TEXT = 12.0, 10.0  # sizes of text
_NARROW_CHARACTERS = frozenset(" .,·/il1:|-")


@dataclass(frozen=True, slots=True)
class Piece:
    """Shapes about a spine: how far they reach to the left and right of it, and down."""

    left: float
    right: float
    height: float
    shapes: tuple[Element, ...]


def text_width(text: str, size: float) -> float:
    """How wide a text may be, at the most, in the sans-serif fonts that are about (DejaVu Sans is the widest)."""
    return size * sum(0.38 if character in _NARROW_CHARACTERS else 0.64 for character in text)


def format_dimensions(shape: Size) -> str:
    """A shape as a drawing has it: 64 × 56 × 56."""
    return " × ".join(map(str, shape))


def layout_column(items: Column, side: Literal[-1, 1] = 1, size: float = LARGE_TEXT) -> Piece:
    """Items one below the other. The shortcuts of splits are on the right for ``side`` 1, of those in them on the left, and so on."""
    if not items:
        return Piece(0, 0, 0, ())
    widest = max(
        (_cell_width(item, size) for item in items if isinstance(item, Cell) and not _is_light(item)), default=0.0
    )
    pieces = [_layout_item(item, side, size, widest) for item in items]
    shapes: list[Element] = list(pieces[0].shapes)
    y = pieces[0].height
    for (before, after), piece in zip(pairwise(items), pieces[1:], strict=True):
        # A split begins with a stretch of spine of its own; between two of them there is some more.
        gap = GAP if isinstance(after, Cell) else 0 if isinstance(before, Cell) else GAP / 2
        if gap:
            shapes.append(Line(((0, y), (0, y + gap)), arrow=isinstance(after, Cell)))
        shapes += _resolution_label(before, y)
        y += gap
        shapes += translate(piece.shapes, 0, y)
        y += piece.height
    labels = [
        6 + text_width(shape.text, shape.size) for shape in shapes if isinstance(shape, Text) and shape.kind == "shape"
    ]
    right = max([*(piece.right for piece in pieces), *labels])
    return Piece(max(piece.left for piece in pieces), right, y, tuple(shapes))


def arrow_down(y: float, to: float, x: float = 0, *, dashed: bool = False) -> Line:
    """An arrow straight down."""
    return Line(((x, y), (x, to)), dashed, arrow=True)


def _layout_item(item: Item, side: Literal[-1, 1], size: float, width: float) -> Piece:
    match item:
        case Cell():
            return _layout_cell(item, size, 0.0 if _is_light(item) else width)
        case ResidualItem():
            return _layout_residual(item, side, size)
        case ParallelItem():
            return _layout_parallel(item, side, size)
        case _:
            assert_never(item)


def _is_light(cell: Cell) -> bool:
    return cell.kind in ("norm", "act")


def _cell_width(cell: Cell, size: float) -> float:
    return (
        max(text_width(cell.label, SMALL_TEXT if _is_light(cell) else size), text_width(_joined_notes(cell), size - 2))
        + 2 * PADDING
    )


def _joined_notes(cell: Cell) -> str:
    return " · ".join(note for note, _ in cell.notes)


def _layout_cell(cell: Cell, size: float, width: float) -> Piece:
    light, notes = _is_light(cell), _joined_notes(cell)
    text = SMALL_TEXT if light else size
    width = max(width, _cell_width(cell, size))
    height = text + (9 if light else 13) + (size * 1.1 if notes else 0)
    path = cell.leaves[0].path
    middle = text / 2 + (4.5 if light else 6.5)
    spans = tuple((format_label(leaf), leaf.path) for leaf in cell.leaves) if light else ()
    shapes: list[Element] = [
        Box(-width / 2, 0, width, height, cell.kind, path, 4 if light else 6),
        Text(0, middle, cell.label, "light" if light else "label", text, path=path, spans=spans),
    ]
    if notes:
        shapes.append(Text(0, middle + size * 1.15, notes, "note", size - 2, path=path, spans=cell.notes))
    return Piece(width / 2, width / 2, height, tuple(shapes))


def _layout_residual(split: ResidualItem, side: Literal[-1, 1], size: float) -> Piece:
    inner: Literal[-1, 1] = -1 if side == 1 else 1
    before, branch, after = (layout_column(part, inner, size) for part in (split.before, split.branch, split.after))
    lane = layout_column(split.shortcut, side, size - 1.5)
    shapes: list[Element] = []
    y = fork = 0.0
    if split.before:
        top = GAP + (FORK if split.early else 0)
        shapes += [arrow_down(0, top), *translate(before.shapes, 0, top)]
        y = top + before.height
    fork = FORK if split.early else y + FORK
    start = (y if split.early else fork) + GAP
    shapes += [arrow_down(y, start), *translate(branch.shapes, 0, start)]
    ends = start + branch.height
    mark = max(ends + GAP, fork + 2 * GAP + lane.height) + MARK_RADIUS
    shapes += [
        arrow_down(ends, mark - MARK_RADIUS),
        *(_resolution_label(split.branch[-1], ends) if split.branch else ()),
    ]
    extents = [branch, before] if split.early else [branch]
    beside = max(MARK_RADIUS, *(piece.right if side == 1 else piece.left for piece in extents)) + LANE
    x = side * (beside + ((lane.left if side == 1 else lane.right) if split.shortcut else 0))
    shapes += _layout_shortcut(split, lane, x, fork, mark, side)
    shapes.append(Mark(0, mark, split.combine, split.path))
    bottom = mark + MARK_RADIUS
    if split.after:
        shapes += [arrow_down(bottom, bottom + GAP), *translate(after.shapes, 0, bottom + GAP)]
        bottom += GAP + after.height
    far = abs(x) + ((lane.right if side == 1 else lane.left) if split.shortcut else 2)
    left, right = (max(piece.left for piece in (before, branch, after)), max(p.right for p in (before, branch, after)))
    return Piece(max(left, far) if side == -1 else left, max(right, far) if side == 1 else right, bottom, tuple(shapes))


def _layout_shortcut(split: ResidualItem, lane: Piece, x: float, fork: float, mark: float, side: int) -> list[Element]:
    """The way beside the branch: solid for x itself, dashed where it is projected."""
    meet = (side * MARK_RADIUS, mark)
    if not split.shortcut:
        return [Line(((0, fork), (x, fork), (x, mark), meet), arrow=True)]
    top = fork + (mark - fork - lane.height) / 2
    return [
        Line(((0, fork), (x, fork), (x, top)), dashed=True, arrow=True),
        *translate(lane.shapes, x, top),
        Line(((x, top + lane.height), (x, mark), meet), dashed=True, arrow=True),
    ]


def _layout_parallel(fan: ParallelItem, side: Literal[-1, 1], size: float) -> Piece:
    """Branches in a row: a bar above that feeds them, a bar below where they meet."""
    pieces = [layout_column(branch, side, size - 1.5) for branch in fan.branches]
    widths = [piece.left + piece.right for piece in pieces]
    half = (sum(widths) + LANE * (len(pieces) - 1)) / 2
    lefts = accumulate((width + LANE for width in widths), initial=-half)
    spines = [left + piece.left for left, piece in zip(lefts, pieces, strict=False)]
    start, tall = FORK + GAP, max(piece.height for piece in pieces)
    bar = start + tall + GAP
    shapes: list[Element] = [Line(((0, 0), (0, FORK)))]
    for x, piece in zip(spines, pieces, strict=True):
        shapes.append(Line(((0, FORK), (x, FORK), (x, start)), arrow=bool(piece.shapes)))
        shapes += translate(piece.shapes, x, start)
        shapes.append(Line(((x, start + piece.height), (x, bar), (0, bar))))
    if fan.cascade:
        shapes += _cascade_lines(fan, pieces, spines, start)
    mark = bar + GAP / 2 + MARK_RADIUS
    shapes += [Line(((0, bar), (0, mark - MARK_RADIUS)), arrow=True), Mark(0, mark, fan.combine, fan.path)]
    pieces_ = f", of {len(pieces)} pieces" if fan.split else ""
    shapes.append(Text(MARK_RADIUS + 5, mark, f"{fan.combine}{pieces_}", "shape", SMALL_TEXT - 1, "start", fan.path))
    return Piece(half, half, mark + MARK_RADIUS, tuple(shapes))


def _cascade_lines(
    fan: ParallelItem, pieces: Sequence[Piece], spines: Sequence[float], start: float
) -> Iterator[Element]:
    """From the end of each branch to the start of the next, which adds it to what it reads."""
    for (x, to), (piece, next_) in zip(pairwise(spines), pairwise(pieces), strict=True):
        if piece.shapes and next_.shapes:
            end, between = start + piece.height + GAP / 2, x + piece.right + LANE / 2
            above = start - GAP / 2
            yield Line(((x, end), (between, end), (between, above), (to, above)), arrow=True)


def _resolution_label(item: Item, y: float) -> Sequence[Element]:
    """The shape beside the spine, below an item that changes the resolution."""
    if item.input_shape[1:] == item.output_shape[1:]:
        return ()
    return (Text(6, y + GAP / 2 - 1, format_dimensions(item.output_shape), "shape", SMALL_TEXT - 1, "start"),)
