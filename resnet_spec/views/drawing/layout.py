"""A network's whole figure: a frame for each stage, side by side and wrapped like a text, or one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape as Size
from resnet_spec.views.drawing.diagram import diagram
from resnet_spec.views.drawing.figure import Figure, Line, Shape, Text, moved
from resnet_spec.views.drawing.frames import Placed, beside, frame, size
from resnet_spec.views.drawing.pieces import SMALL, reach, shown
from resnet_spec.views.drawing.theme import Direction
from resnet_spec.views.table import count

PAGE = 1180  # pixels across, at which frames go on in a row below
MARGIN = 16
HEADER = 48
BETWEEN = 40  # frames
TURN = 14  # between the line from one row to the next and those within a row


def figure(
    network: Network, *, depth: int | None = None, unfold: bool = False, direction: Direction = "across"
) -> Figure:
    """The drawing of a network: stages at depth 1, blocks at depth 2, else all layers.

    >>> from resnet_spec import load
    >>> drawn = figure(load("resnet18"))
    >>> drawn.width <= PAGE, len(drawn.shapes) > 100
    (True, True)
    """
    found = compute_costs(network)
    frames = [frame(one, found, depth) for one in diagram(network, unfold=unfold)]
    shapes = list(_title(network, found[""]))
    width = max(MARGIN + reach(shape.text, shape.size) for shape in shapes if isinstance(shape, Text))
    rows = [beside(row, BETWEEN) for row in (_rows(frames) if direction == "across" else [[one] for one in frames])]
    spine = max(row.enters for row in rows) if direction == "down" else 0.0
    y = float(HEADER)
    end: tuple[float, float] | None = None
    input_shape: Size = network.input
    for row in rows:
        y += BETWEEN + (TURN if end else 0)
        x = MARGIN + (spine - row.enters if spine else 0.0)
        shapes += [*_into(end, x + row.enters, y, input_shape), *moved(row.shapes, x, y)]
        end = (x + row.leaves[0], y + row.leaves[1])
        width = max(width, x + row.width)
        y += row.height
        input_shape = row.output_shape
    assert end is not None  # a network has layers
    out = (end[0], end[1] + BETWEEN - 14)
    shapes += [Line((end, out), arrow=True), size(end[0], out[1], input_shape)]
    return Figure(width + MARGIN, max(y + TURN, out[1]) + MARGIN, tuple(shapes))


def _title(network: Network, cost: Cost) -> Iterator[Shape]:
    about = f"{count(cost.parameters)} parameters · {count(cost.macs)} MACs · input {shown(network.input)}"
    yield Text(MARGIN, MARGIN + 9, network.name, "title", 17, "start")
    yield Text(MARGIN, MARGIN + 30, about, "note", SMALL + 1, "start")


def _into(end: tuple[float, float] | None, x: float, y: float, input_shape: Size) -> list[Shape]:
    """From the input to the first frame, or from the end of a row to the start of the next."""
    if end is None:
        return [Line(((x, y - BETWEEN + 12), (x, y)), arrow=True), size(x, y, input_shape)]
    turn = y - BETWEEN / 2 - TURN
    straight = (end, (x, y))
    points = straight if end[0] == x else (end, (end[0], turn), (x, turn), (x, y))
    return [Line(points, arrow=True), size(x, y, input_shape)]


def _rows(frames: Sequence[Placed]) -> list[list[Placed]]:
    """Frames in as few rows as the page allows, broken so that the widest row is as narrow as can be."""
    limit = max(PAGE - 2 * MARGIN, *(one.width for one in frames))
    least = len(_broken(frames, limit))
    while len(_broken(frames, limit - 10)) == least and limit - 10 >= max(one.width for one in frames):
        limit -= 10
    return _broken(frames, limit)


def _broken(frames: Sequence[Placed], limit: float) -> list[list[Placed]]:
    rows: list[list[Placed]] = []
    used = 0.0
    for one in frames:
        if not rows or used + BETWEEN + one.width > limit:
            rows.append([one])
            used = one.width
        else:
            rows[-1].append(one)
            used += BETWEEN + one.width
    return rows
