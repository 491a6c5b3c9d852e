"""A figure: shapes with a place, in pixels from the top left, for whoever paints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

MARK_RADIUS = 8.0  # of a mark
CORNER_RADIUS = 6.0  # of a line's corners
ARROW_HALF_WIDTH = 4.0  # half the width of an arrow's head

Point: TypeAlias = tuple[float, float]
Anchor: TypeAlias = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with round corners. ``kind`` is what it stands for, and so its colours; ``path`` the part it shows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    path: str = ""
    radius: float = 5


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text, its middle at ``y``. ``path`` is the part that it is about.

    ``spans`` are the pieces of the text that are about parts of their own, and their paths.
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
    """A line from point to point, its corners rounded."""

    points: tuple[Point, ...]
    dashed: bool = False
    arrow: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A circle with a sign in it: where branches meet."""

    x: float
    y: float
    sign: Literal["add", "multiply", "concat", "mean"]
    path: str = ""


Element: TypeAlias = Box | Text | Line | Mark


@dataclass(frozen=True, slots=True)
class Figure:
    """Shapes in the order they are painted."""

    width: float
    height: float
    shapes: tuple[Element, ...]


def translate(shapes: Iterable[Element], dx: float, dy: float) -> list[Element]:
    """Shapes moved to the right and down."""
    return [_translate_one(shape, dx, dy) for shape in shapes]


def _translate_one(shape: Element, dx: float, dy: float) -> Element:
    match shape:
        case Box() | Text() | Mark():
            return replace(shape, x=shape.x + dx, y=shape.y + dy)
        case Line():
            return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))
        case _:
            assert_never(shape)


def rounded_corners(line: Line) -> Iterator[tuple[Point, Point, Point]]:
    """Where a line bends: the point before each of its corners, the corner, and the point after it."""
    for before, corner, after in zip(line.points, line.points[1:], line.points[2:], strict=False):
        yield _point_towards(corner, before), corner, _point_towards(corner, after)


def arrow_head(line: Line) -> tuple[Point, Point, Point]:
    """The triangle at the end of an arrow, its tip first."""
    (x0, y0), (x, y) = line.points[-2:]
    away = math.hypot(x - x0, y - y0) or 1
    dx, dy = ARROW_HALF_WIDTH * (x - x0) / away, ARROW_HALF_WIDTH * (y - y0) / away
    back = (x - 1.7 * dx, y - 1.7 * dy)
    return (x, y), (back[0] - dy, back[1] + dx), (back[0] + dy, back[1] - dx)


def sign_strokes(mark: Mark) -> tuple[tuple[Point, Point], tuple[Point, Point]]:
    """The two strokes of a mark's sign."""
    x, y = mark.x, mark.y
    match mark.sign:
        case "add" | "mean":
            return ((x - 4, y), (x + 4, y)), ((x, y - 4), (x, y + 4))
        case "multiply":
            return ((x - 2.9, y - 2.9), (x + 2.9, y + 2.9)), ((x - 2.9, y + 2.9), (x + 2.9, y - 2.9))
        case "concat":
            return ((x - 2, y - 4), (x - 2, y + 4)), ((x + 2, y - 4), (x + 2, y + 4))
        case _:
            assert_never(mark.sign)


def _point_towards(corner: Point, other: Point) -> Point:
    away = math.dist(corner, other) or 1
    part = min(CORNER_RADIUS, away / 2) / away
    return corner[0] + part * (other[0] - corner[0]), corner[1] + part * (other[1] - corner[1])
