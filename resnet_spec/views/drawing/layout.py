"""A network's whole figure: a frame for each stage, side by side and wrapped like a text, or one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape as Size
from resnet_spec.views.drawing.diagram import build_diagram
from resnet_spec.views.drawing.figure import Element, Figure, Line, Text, translate
from resnet_spec.views.drawing.frames import Panel, layout_frame, place_side_by_side, shape_label
from resnet_spec.views.drawing.pieces import SMALL_TEXT, format_dimensions, text_width
from resnet_spec.views.drawing.theme import Direction
from resnet_spec.views.table import format_count

MAX_WIDTH = 1180  # pixels across, at which frames go on in a row below
MARGIN = 16
HEADER_HEIGHT = 48
FRAME_GAP = 40  # frames
TURN_OFFSET = 14  # between the line from one row to the next and those within a row


def layout_figure(
    network: Network, *, depth: int | None = None, unfold: bool = False, direction: Direction = "across"
) -> Figure:
    """The drawing of a network: stages at depth 1, blocks at depth 2, else all layers.

    >>> from resnet_spec import load
    >>> drawn = layout_figure(load("resnet18"))
    >>> drawn.width <= PAGE, len(drawn.shapes) > 100
    (True, True)
    """
    found = compute_costs(network)
    frames = [layout_frame(one, found, depth) for one in build_diagram(network, unfold=unfold)]
    shapes = list(_title_lines(network, found[""]))
    width = max(MARGIN + text_width(shape.text, shape.size) for shape in shapes if isinstance(shape, Text))
    rows = [
        place_side_by_side(row, FRAME_GAP)
        for row in (_wrap_rows(frames) if direction == "across" else [[one] for one in frames])
    ]
    spine = max(row.enters for row in rows) if direction == "down" else 0.0
    y = float(HEADER_HEIGHT)
    end: tuple[float, float] | None = None
    input_shape: Size = network.input
    for row in rows:
        y += FRAME_GAP + (TURN_OFFSET if end else 0)
        x = MARGIN + (spine - row.enters if spine else 0.0)
        shapes += [*_entry_line(end, x + row.enters, y, input_shape), *translate(row.shapes, x, y)]
        end = (x + row.leaves[0], y + row.leaves[1])
        width = max(width, x + row.width)
        y += row.height
        input_shape = row.output_shape
    assert end is not None  # a network has layers
    out = (end[0], end[1] + FRAME_GAP - 14)
    shapes += [Line((end, out), arrow=True), shape_label(end[0], out[1], input_shape)]
    return Figure(width + MARGIN, max(y + TURN_OFFSET, out[1]) + MARGIN, tuple(shapes))


def _title_lines(network: Network, cost: Cost) -> Iterator[Element]:
    about = f"{format_count(cost.parameters)} parameters · {format_count(cost.macs)} MACs · input {format_dimensions(network.input)}"
    yield Text(MARGIN, MARGIN + 9, network.name, "title", 17, "start")
    yield Text(MARGIN, MARGIN + 30, about, "note", SMALL_TEXT + 1, "start")


def _entry_line(end: tuple[float, float] | None, x: float, y: float, input_shape: Size) -> list[Element]:
    """From the input to the first frame, or from the end of a row to the start of the next."""
    if end is None:
        return [Line(((x, y - FRAME_GAP + 12), (x, y)), arrow=True), shape_label(x, y, input_shape)]
    turn = y - FRAME_GAP / 2 - TURN_OFFSET
    straight = (end, (x, y))
    points = straight if end[0] == x else (end, (end[0], turn), (x, turn), (x, y))
    return [Line(points, arrow=True), shape_label(x, y, input_shape)]


def _wrap_rows(frames: Sequence[Panel]) -> list[list[Panel]]:
    """Frames in as few rows as the page allows, broken so that the widest row is as narrow as can be."""
    limit = max(MAX_WIDTH - 2 * MARGIN, *(one.width for one in frames))
    least = len(_break_rows(frames, limit))
    while len(_break_rows(frames, limit - 10)) == least and limit - 10 >= max(one.width for one in frames):
        limit -= 10
    return _break_rows(frames, limit)


def _break_rows(frames: Sequence[Panel], limit: float) -> list[list[Panel]]:
    rows: list[list[Panel]] = []
    used = 0.0
    for one in frames:
        if not rows or used + FRAME_GAP + one.width > limit:
            rows.append([one])
            used = one.width
        else:
            rows[-1].append(one)
            used += FRAME_GAP + one.width
    return rows
