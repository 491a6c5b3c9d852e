"""A figure as PNG or PDF, painted by matplotlib."""

from __future__ import annotations

from io import BytesIO
from itertools import chain
from typing import Literal, assert_never

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Way

from resnet_spec.views.drawing.figure import (
    MARK_RADIUS,
    Box,
    Element,
    Figure,
    Line,
    Mark,
    Text,
    arrow_head,
    rounded_corners,
    sign_strokes,
)
from resnet_spec.views.drawing.theme import DARK, LIGHT, Colours, Theme, text_style

PIXELS_PER_INCH = 96  # pixels
PNG_DPI = 2 * PIXELS_PER_INCH  # dots of a PNG to an inch: two for each pixel
POINTS_PER_PIXEL = 72 / PIXELS_PER_INCH
ALIGNMENTS = {"start": "left", "middle": "center", "end": "right"}


def render_matplotlib(figure: Figure, form: Literal["png", "pdf"], theme: Theme = "auto") -> bytes:
    """A whole file. "auto" is light: a file of pixels can't turn."""
    colours = DARK if theme == "dark" else LIGHT
    page = Sheet(figsize=(figure.width / PIXELS_PER_INCH, figure.height / PIXELS_PER_INCH), facecolor=colours.page)
    axes = page.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, figure.width)
    axes.set_ylim(figure.height, 0)
    axes.axis("off")
    for order, shape in enumerate(figure.shapes):
        _paint(axes, shape, colours, order)
    # no date and no version, so that the same network gives the same file
    nameless = {"CreationDate": None, "Producer": None, "Creator": None} if form == "pdf" else {"Software": None}
    file = BytesIO()
    page.savefig(file, format=form, dpi=PNG_DPI, metadata=nameless)
    return file.getvalue()


def _paint(axes: Axes, shape: Element, colours: Colours, order: int) -> None:
    match shape:
        case Box(x, y, width, height, kind, _, radius):
            fill, line = colours.boxes[kind]
            corner, form = (x + radius, y + radius), f"round,pad={radius},rounding_size={radius}"
            extent = (width - 2 * radius, height - 2 * radius)
            axes.add_patch(FancyBboxPatch(corner, *extent, form, fc=fill, ec=line, lw=POINTS_PER_PIXEL, zorder=order))
        case Text(x, y, text, kind, size, anchor):
            colour, bold = text_style(kind)
            axes.text(
                x,
                y + 0.35 * size,
                text,
                ha=ALIGNMENTS[anchor],
                color=getattr(colours, colour),
                fontsize=size * POINTS_PER_PIXEL,
                fontweight="bold" if bold else "normal",
                parse_math=False,
                zorder=order,
            )
        case Line():
            _line(axes, shape, colours, order)
        case Mark(x, y):
            edge = {"ec": colours.line, "lw": 1.4 * POINTS_PER_PIXEL}
            axes.add_patch(Circle((x, y), MARK_RADIUS, fc=colours.page, zorder=order, **edge))
            for start, end in sign_strokes(shape):
                axes.add_patch(PathPatch(Way([start, end]), zorder=order, **edge))
        case _:
            assert_never(shape)


def _line(axes: Axes, line: Line, colours: Colours, order: int) -> None:
    bends = list(rounded_corners(line))
    points = [line.points[0], *chain.from_iterable(bends), line.points[-1]]
    codes = [Way.MOVETO, *[Way.LINETO, Way.CURVE3, Way.CURVE3] * len(bends), Way.LINETO]
    style = (0, (5 / 1.4, 4 / 1.4)) if line.dashed else "solid"
    way = PathPatch(Way(points, codes), fc="none", ec=colours.line, lw=1.4 * POINTS_PER_PIXEL, ls=style, zorder=order)
    axes.add_patch(way)
    if line.arrow:
        axes.add_patch(Polygon(arrow_head(line), fc=colours.line, lw=0, zorder=order))
