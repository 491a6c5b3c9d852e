"""Layout of a whole figure: a frame for each stage, in rows that wrap like text, or one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.views.drawing.diagram import build_diagram
from resnet_spec.views.drawing.figure import Element, Figure, Line, Point, Text, translate
from resnet_spec.views.drawing.frames import Panel, layout_frame, place_side_by_side, shape_label
from resnet_spec.views.drawing.pieces import SMALL_TEXT, format_dimensions, text_width
from resnet_spec.views.drawing.theme import Direction
from resnet_spec.views.table import format_count

MAX_WIDTH = 1180  # of a figure, in pixels, unless a single frame is wider
MARGIN = 16
HEADER_HEIGHT = 48
FRAME_GAP = 40
TURN_OFFSET = 14  # keeps the line from one row to the next apart from the lines within a row


def layout_figure(
    network: Network, *, depth: int | None = None, unfold: bool = False, direction: Direction = "across"
) -> Figure:
    """Return the drawing of a network: stages at depth 1, blocks at depth 2, otherwise all layers.

    >>> from resnet_spec import load
    >>> figure = layout_figure(load("resnet18"))
    >>> figure.width <= MAX_WIDTH, len(figure.elements) > 100
    (True, True)
    """
    costs = compute_costs(network)
    frames = [layout_frame(frame, costs, depth) for frame in build_diagram(network, unfold=unfold)]
    titles = list(_title_lines(network, costs[""]))
    elements: list[Element] = [*titles]
    width = max(MARGIN + text_width(title.text, title.size) for title in titles)
    wrapped = _wrap_rows(frames) if direction == "across" else [[frame] for frame in frames]
    rows = [place_side_by_side(row, FRAME_GAP) for row in wrapped]
    spine = max(row.entry_x for row in rows) if direction == "down" else 0.0
    y = float(HEADER_HEIGHT)
    end: Point | None = None
    shape: Shape = network.input
    for row in rows:
        y += FRAME_GAP + (TURN_OFFSET if end else 0)
        x = MARGIN + (spine - row.entry_x if spine else 0.0)
        elements += [*_entry_line(end, x + row.entry_x, y, shape), *translate(row.elements, x, y)]
        end = (x + row.exit[0], y + row.exit[1])
        width = max(width, x + row.width)
        y += row.height
        shape = row.output_shape
    assert end is not None  # a network has layers
    out = (end[0], end[1] + FRAME_GAP - 14)
    elements += [Line((end, out), arrow=True), shape_label(*out, shape)]
    return Figure(width + MARGIN, max(y + TURN_OFFSET, out[1]) + MARGIN, tuple(elements))


def _title_lines(network: Network, cost: Cost) -> Iterator[Text]:
    costs = f"{format_count(cost.parameters)} parameters · {format_count(cost.macs)} MACs"
    subtitle = f"{costs} · input {format_dimensions(network.input)}"
    yield Text(MARGIN, MARGIN + 9, network.name, "title", 17, "start")
    yield Text(MARGIN, MARGIN + 30, subtitle, "note", SMALL_TEXT + 1, "start")


def _entry_line(end: Point | None, x: float, y: float, shape: Shape) -> list[Element]:
    """Return the arrow to the start of a row at (x, y), from the end of the row before or from the network's input."""
    if end is None:
        return [Line(((x, y - FRAME_GAP + 12), (x, y)), arrow=True), shape_label(x, y, shape)]
    turn = y - FRAME_GAP / 2 - TURN_OFFSET
    points = (end, (x, y)) if end[0] == x else (end, (end[0], turn), (x, turn), (x, y))
    return [Line(points, arrow=True), shape_label(x, y, shape)]


def _wrap_rows(frames: Sequence[Panel]) -> list[list[Panel]]:
    """Return the frames in as few rows as fit the maximal width, with the widest row as narrow as possible."""
    widest = max(frame.width for frame in frames)
    limit = max(MAX_WIDTH - 2 * MARGIN, widest)
    rows = len(_break_rows(frames, limit))
    while limit - 10 >= widest and len(_break_rows(frames, limit - 10)) == rows:
        limit -= 10
    return _break_rows(frames, limit)


def _break_rows(frames: Sequence[Panel], limit: float) -> list[list[Panel]]:
    rows: list[list[Panel]] = []
    used = 0.0
    for frame in frames:
        if not rows or used + FRAME_GAP + frame.width > limit:
            rows.append([frame])
            used = frame.width
        else:
            rows[-1].append(frame)
            used += FRAME_GAP + frame.width
    return rows
