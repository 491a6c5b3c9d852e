"""A figure as PNG or PDF, painted by matplotlib."""

from __future__ import annotations

from io import BytesIO
from itertools import chain
from typing import Literal, assert_never

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Way

from resnet_spec.views.drawing.figure import RADIUS, Box, Figure, Line, Mark, Shape, Text, corners, head, strokes
from resnet_spec.views.drawing.theme import DARK, LIGHT, Colours, Theme, look

INCH = 96  # pixels
SHARP = 2 * INCH  # dots of a PNG to an inch: two for each pixel
POINT = 72 / INCH
SIDES = {"start": "left", "middle": "center", "end": "right"}


def sheet(figure: Figure, form: Literal["png", "pdf"], theme: Theme = "auto") -> bytes:
    """A whole file. "auto" is light: a file of pixels can't turn."""
    colours = DARK if theme == "dark" else LIGHT
    page = Sheet(figsize=(figure.width / INCH, figure.height / INCH), facecolor=colours.page)
    axes = page.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, figure.width)
    axes.set_ylim(figure.height, 0)
    axes.axis("off")
    for order, shape in enumerate(figure.shapes):
        _paint(axes, shape, colours, order)
    # no date and no version, so that the same network gives the same file
    nameless = {"CreationDate": None, "Producer": None, "Creator": None} if form == "pdf" else {"Software": None}
    file = BytesIO()
    page.savefig(file, format=form, dpi=SHARP, metadata=nameless)
    return file.getvalue()


def _paint(axes: Axes, shape: Shape, colours: Colours, order: int) -> None:
    match shape:
        case Box(x, y, width, height, kind, _, radius):
            fill, line = colours.boxes[kind]
            corner, form = (x + radius, y + radius), f"round,pad={radius},rounding_size={radius}"
            extent = (width - 2 * radius, height - 2 * radius)
            axes.add_patch(FancyBboxPatch(corner, *extent, form, fc=fill, ec=line, lw=POINT, zorder=order))
        case Text(x, y, text, kind, size, anchor):
            colour, bold = look(kind)
            axes.text(
                x,
                y + 0.35 * size,
                text,
                ha=SIDES[anchor],
                color=getattr(colours, colour),
                fontsize=size * POINT,
                fontweight="bold" if bold else "normal",
                parse_math=False,
                zorder=order,
            )
        case Line():
            _line(axes, shape, colours, order)
        case Mark(x, y):
            edge = {"ec": colours.line, "lw": 1.4 * POINT}
            axes.add_patch(Circle((x, y), RADIUS, fc=colours.page, zorder=order, **edge))
            for start, end in strokes(shape):
                axes.add_patch(PathPatch(Way([start, end]), zorder=order, **edge))
        case _:
            assert_never(shape)


def _line(axes: Axes, line: Line, colours: Colours, order: int) -> None:
    bends = list(corners(line))
    points = [line.points[0], *chain.from_iterable(bends), line.points[-1]]
    codes = [Way.MOVETO, *[Way.LINETO, Way.CURVE3, Way.CURVE3] * len(bends), Way.LINETO]
    style = (0, (5 / 1.4, 4 / 1.4)) if line.dashed else "solid"
    way = PathPatch(Way(points, codes), fc="none", ec=colours.line, lw=1.4 * POINT, ls=style, zorder=order)
    axes.add_patch(way)
    if line.arrow:
        axes.add_patch(Polygon(head(line), fc=colours.line, lw=0, zorder=order))
