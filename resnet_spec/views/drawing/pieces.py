"""Layout of items: cells below each other on a vertical spine, with shortcuts and branches beside them.

In a piece the spine is at x = 0: it enters at the top, y = 0, and leaves at the bottom, y = height. Positions follow
from the tree by recursion, because branches that split always join again, so no general graph layout is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias, assert_never

from resnet_spec.ops import Shape
from resnet_spec.views.drawing.diagram import Cell, Column, Item, ParallelItem, ResidualItem, format_label
from resnet_spec.views.drawing.figure import MARK_RADIUS, Box, Element, Line, Mark, Text, translate

GAP = 18  # between two cells
FORK = 8  # length of the spine above a fork
LANE = 14  # between the cells and a shortcut beside them
PADDING = 9
LARGE_TEXT, SMALL_TEXT = 12.0, 10.0  # font sizes
_NARROW_CHARACTERS = frozenset(" .,·/il1:|-")

Side: TypeAlias = Literal[-1, 1]
"""Where shortcuts run: -1 is left of the spine, 1 is right."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements around a spine, with their extents to the left of it, to its right, and down."""

    left: float
    right: float
    height: float
    elements: tuple[Element, ...]


def text_width(text: str, size: float) -> float:
    """Return an upper bound of a text's width in common sans-serif fonts, of which DejaVu Sans is the widest."""
    return size * sum(0.38 if character in _NARROW_CHARACTERS else 0.64 for character in text)


def format_dimensions(shape: Shape) -> str:
    """Return a shape as drawings show it: 64 × 56 × 56."""
    return " × ".join(map(str, shape))


def layout_column(items: Column, side: Side = 1, size: float = LARGE_TEXT) -> Piece:
    """Place items one below the other, with the shortcuts of residual items on one side.

    Residual items nested in these have their shortcuts on the other side, and so on alternately.
    """
    if not items:
        return Piece(0, 0, 0, ())
    widest = max(
        (_cell_width(item, size) for item in items if isinstance(item, Cell) and not _is_light(item)), default=0.0
    )
    pieces = [_layout_item(item, side, size, widest) for item in items]
    elements: list[Element] = list(pieces[0].elements)
    y = pieces[0].height
    for (before, after), piece in zip(pairwise(items), pieces[1:], strict=True):
        # Residual and parallel items start with a bit of spine of their own, so they need less of a gap or none.
        gap = GAP if isinstance(after, Cell) else 0 if isinstance(before, Cell) else GAP / 2
        if gap:
            elements.append(Line(((0, y), (0, y + gap)), arrow=isinstance(after, Cell)))
        elements += _resolution_label(before, y)
        y += gap
        elements += translate(piece.elements, 0, y)
        y += piece.height
    texts = [element for element in elements if isinstance(element, Text) and element.kind == "shape"]
    right = max([*(piece.right for piece in pieces), *(6 + text_width(text.text, text.size) for text in texts)])
    return Piece(max(piece.left for piece in pieces), right, y, tuple(elements))


def arrow_down(y: float, end: float, x: float = 0, *, dashed: bool = False) -> Line:
    """Return a vertical arrow from ``y`` down to ``end``."""
    return Line(((x, y), (x, end)), dashed, arrow=True)


def _layout_item(item: Item, side: Side, size: float, width: float) -> Piece:
    match item:
        case Cell():
            return _layout_cell(item, size, 0.0 if _is_light(item) else width)
        case ResidualItem():
            return _layout_residual(item, side, size)
        case ParallelItem(collect=True):
            return _layout_collected(item, side, size)
        case ParallelItem():
            return _layout_parallel(item, side, size)
        case _:
            assert_never(item)


def _is_light(cell: Cell) -> bool:
    """Whether a cell holds only norms and activations, which are drawn smaller."""
    return cell.kind in ("norm", "act")


def _cell_width(cell: Cell, size: float) -> float:
    label = text_width(cell.label, SMALL_TEXT if _is_light(cell) else size)
    return max(label, text_width(_join_notes(cell), size - 2)) + 2 * PADDING


def _join_notes(cell: Cell) -> str:
    return " · ".join(note for note, _ in cell.notes)


def _layout_cell(cell: Cell, size: float, min_width: float) -> Piece:
    light, notes = _is_light(cell), _join_notes(cell)
    label_size = SMALL_TEXT if light else size
    width = max(min_width, _cell_width(cell, size))
    height = label_size + (9 if light else 13) + (size * 1.1 if notes else 0)
    path = cell.leaves[0].path
    middle = label_size / 2 + (4.5 if light else 6.5)
    spans = tuple((format_label(leaf), leaf.path) for leaf in cell.leaves) if light else ()
    elements: list[Element] = [
        Box(-width / 2, 0, width, height, cell.kind, path, 4 if light else 6),
        Text(0, middle, cell.label, "light" if light else "label", label_size, path=path, spans=spans),
    ]
    if notes:
        elements.append(Text(0, middle + size * 1.15, notes, "note", size - 2, path=path, spans=cell.notes))
    return Piece(width / 2, width / 2, height, tuple(elements))


def _layout_residual(item: ResidualItem, side: Side, size: float) -> Piece:
    """Place the branch on the spine and the shortcut beside it, and join them in a mark."""
    inner_side: Side = -1 if side == 1 else 1
    before, branch, after = (layout_column(row, inner_side, size) for row in (item.before, item.branch, item.after))
    lane = layout_column(item.shortcut, side, size - 1.5)
    elements: list[Element] = []
    y = 0.0
    if item.before:
        top = GAP + (FORK if item.skips_before else 0)
        elements += [arrow_down(0, top), *translate(before.elements, 0, top)]
        y = top + before.height
    fork = FORK if item.skips_before else y + FORK
    start = (y if item.skips_before else fork) + GAP
    elements += [arrow_down(y, start), *translate(branch.elements, 0, start)]
    end = start + branch.height
    mark = max(end + GAP, fork + 2 * GAP + lane.height) + MARK_RADIUS
    elements.append(arrow_down(end, mark - MARK_RADIUS))
    elements += _resolution_label(item.branch[-1], end) if item.branch else ()
    beside = [branch, before] if item.skips_before else [branch]
    clearance = max(MARK_RADIUS, *(piece.right if side == 1 else piece.left for piece in beside)) + LANE
    x = side * (clearance + ((lane.left if side == 1 else lane.right) if item.shortcut else 0))
    elements += _shortcut_lines(item, lane, x, fork, mark, side)
    elements.append(Mark(0, mark, item.combine, item.path))
    bottom = mark + MARK_RADIUS
    if item.after:
        elements += [arrow_down(bottom, bottom + GAP), *translate(after.elements, 0, bottom + GAP)]
        bottom += GAP + after.height
    extent = abs(x) + ((lane.right if side == 1 else lane.left) if item.shortcut else 2)
    left, right = (max(getattr(piece, name) for piece in (before, branch, after)) for name in ("left", "right"))
    if side == 1:
        return Piece(left, max(right, extent), bottom, tuple(elements))
    return Piece(max(left, extent), right, bottom, tuple(elements))


def _shortcut_lines(item: ResidualItem, lane: Piece, x: float, fork: float, mark: float, side: Side) -> list[Element]:
    """Return the shortcut beside the branch: a solid line for the identity, else its layers between dashed lines."""
    end = (side * MARK_RADIUS, mark)
    if not item.shortcut:
        return [Line(((0, fork), (x, fork), (x, mark), end), arrow=True)]
    top = fork + (mark - fork - lane.height) / 2
    return [
        Line(((0, fork), (x, fork), (x, top)), dashed=True, arrow=True),
        *translate(lane.elements, x, top),
        Line(((x, top + lane.height), (x, mark), end), dashed=True, arrow=True),
    ]


def _layout_parallel(item: ParallelItem, side: Side, size: float) -> Piece:
    """Place branches side by side, between a horizontal line that feeds them and another where they join."""
    pieces = [layout_column(branch, side, size - 1.5) for branch in item.branches]
    widths = [piece.left + piece.right for piece in pieces]
    half = (sum(widths) + LANE * (len(pieces) - 1)) / 2
    lefts = accumulate((width + LANE for width in widths), initial=-half)
    spines = [left + piece.left for left, piece in zip(lefts, pieces, strict=False)]
    start = FORK + GAP
    join = start + max(piece.height for piece in pieces) + GAP
    elements: list[Element] = [Line(((0, 0), (0, FORK)))]
    for x, piece in zip(spines, pieces, strict=True):
        elements.append(Line(((0, FORK), (x, FORK), (x, start)), arrow=bool(piece.elements)))
        elements += translate(piece.elements, x, start)
        elements.append(Line(((x, start + piece.height), (x, join), (0, join))))
    if item.cascade:
        elements += _cascade_lines(pieces, spines, start)
    mark = join + GAP / 2 + MARK_RADIUS
    elements += [Line(((0, join), (0, mark - MARK_RADIUS)), arrow=True), Mark(0, mark, item.combine, item.path)]
    label = f"{item.combine}, of {len(pieces)} pieces" if item.split else item.combine
    elements.append(Text(MARK_RADIUS + 5, mark, label, "shape", SMALL_TEXT - 1, "start", item.path))
    return Piece(half, half, mark + MARK_RADIUS, tuple(elements))


def _layout_collected(item: ParallelItem, side: Side, size: float) -> Piece:
    """Place layers below each other, and lead their input and each output beside them to the mark where they join."""
    pieces = [layout_column(branch, side, size) for branch in item.branches[1:]]
    left, right = (max(getattr(piece, name) for piece in pieces) for name in ("left", "right"))
    x = side * ((right if side == 1 else left) + LANE)
    elements: list[Element] = []
    y, taps = 0.0, list[float]()
    for piece in pieces:
        taps.append(y + FORK)
        start = y + FORK + GAP
        elements += [arrow_down(y, start), *translate(piece.elements, 0, start)]
        y = start + piece.height
    mark = y + 2 * GAP + MARK_RADIUS
    elements.append(arrow_down(y, mark - MARK_RADIUS))
    # Outputs share one line down to the mark; only the first has an arrow there.
    elements += [
        Line(((0, tap), (x, tap), (x, mark), (side * MARK_RADIUS, mark)), arrow=not at) for at, tap in enumerate(taps)
    ]
    label = f"{item.combine}, of {len(item.branches)}"
    elements += [Mark(0, mark, item.combine, item.path)]
    elements.append(
        Text(
            -side * (MARK_RADIUS + 5), mark, label, "shape", SMALL_TEXT - 1, "end" if side == 1 else "start", item.path
        )
    )
    beside = text_width(label, SMALL_TEXT - 1) + MARK_RADIUS + 5
    extents = (max(left, beside), right + LANE) if side == 1 else (left + LANE, max(right, beside))
    return Piece(*extents, mark + MARK_RADIUS, tuple(elements))


def _cascade_lines(pieces: Sequence[Piece], spines: Sequence[float], start: float) -> Iterator[Element]:
    """Yield a line from the end of each branch to the start of the next, unless one of them has no layers."""
    for (x, next_x), (piece, next_piece) in zip(pairwise(spines), pairwise(pieces), strict=True):
        if piece.elements and next_piece.elements:
            end, between = start + piece.height + GAP / 2, x + piece.right + LANE / 2
            above = start - GAP / 2
            yield Line(((x, end), (between, end), (between, above), (next_x, above)), arrow=True)


def _resolution_label(item: Item, y: float) -> Sequence[Element]:
    """Return the output shape, placed beside the spine below an item that changes the height and width."""
    if item.input_shape[1:] == item.output_shape[1:]:
        return ()
    return (Text(6, y + GAP / 2 - 1, format_dimensions(item.output_shape), "shape", SMALL_TEXT - 1, "start"),)
