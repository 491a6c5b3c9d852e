"""A figure: elements with positions, in pixels from the top left corner, for any renderer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

MARK_RADIUS = 8.0
CORNER_RADIUS = 6.0  # of the bends of lines
ARROW_HALF_WIDTH = 4.0

Point: TypeAlias = tuple[float, float]
Anchor: TypeAlias = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with rounded corners. ``kind`` selects its colours; ``path`` is the part of the network it shows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    path: str = ""
    radius: float = 5


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text, vertically centred at ``y``.

    Attributes:
        path: The part of the network that the text is about.
        spans: The text in pieces, each with the path of the part that it is about; empty if all is about one part.
    """

    x: float
    y: float
    text: str
    kind: str
    size: float
    anchor: Anchor = "middle"
    path: str = ""
    spans: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line through several points, with rounded corners."""

    points: tuple[Point, ...]
    dashed: bool = False
    arrow: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A circle with a sign inside, where branches join."""

    x: float
    y: float
    sign: Literal["add", "multiply", "concat", "mean", "subtract"]
    path: str = ""


Element: TypeAlias = Box | Text | Line | Mark


@dataclass(frozen=True, slots=True)
class Figure:
    """A whole drawing. Elements are in painting order, the lowest first."""

    width: float
    height: float
    elements: tuple[Element, ...]


def translate(elements: Iterable[Element], dx: float, dy: float) -> list[Element]:
    """Return the elements moved to the right by ``dx`` and down by ``dy``."""
    return [_translate_one(element, dx, dy) for element in elements]


def _translate_one(element: Element, dx: float, dy: float) -> Element:
    match element:
        case Box() | Text() | Mark():
            return replace(element, x=element.x + dx, y=element.y + dy)
        case Line():
            return replace(element, points=tuple((x + dx, y + dy) for x, y in element.points))
        case _:
            assert_never(element)


def rounded_corners(line: Line) -> Iterator[tuple[Point, Point, Point]]:
    """Yield, for each bend of a line, where its curve starts, the corner (the curve's control point), and its end."""
    for before, corner, after in zip(line.points, line.points[1:], line.points[2:], strict=False):
        yield _point_towards(corner, before), corner, _point_towards(corner, after)


def arrow_head(line: Line) -> tuple[Point, Point, Point]:
    """Return the corners of the triangle at the end of an arrow, its tip first."""
    (x0, y0), (x, y) = line.points[-2:]
    length = math.hypot(x - x0, y - y0) or 1
    dx, dy = ARROW_HALF_WIDTH * (x - x0) / length, ARROW_HALF_WIDTH * (y - y0) / length
    base = (x - 1.7 * dx, y - 1.7 * dy)
    return (x, y), (base[0] - dy, base[1] + dx), (base[0] + dy, base[1] - dx)


def sign_strokes(mark: Mark) -> tuple[tuple[Point, Point], ...]:
    """Return the strokes of a mark's sign."""
    x, y = mark.x, mark.y
    match mark.sign:
        case "add" | "mean":
            return ((x - 4, y), (x + 4, y)), ((x, y - 4), (x, y + 4))
        case "subtract":
            return (((x - 4, y), (x + 4, y)),)
        case "multiply":
            return ((x - 2.9, y - 2.9), (x + 2.9, y + 2.9)), ((x - 2.9, y + 2.9), (x + 2.9, y - 2.9))
        case "concat":
            return ((x - 2, y - 4), (x - 2, y + 4)), ((x + 2, y - 4), (x + 2, y + 4))
        case _:
            assert_never(mark.sign)


def _point_towards(corner: Point, target: Point) -> Point:
    """Return the point at the corner radius from a corner, but not beyond half the way to the target."""
    length = math.dist(corner, target) or 1
    fraction = min(CORNER_RADIUS, length / 2) / length
    return corner[0] + fraction * (target[0] - corner[0]), corner[1] + fraction * (target[1] - corner[1])
