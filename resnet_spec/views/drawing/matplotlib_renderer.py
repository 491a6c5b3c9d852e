"""Figures as PNG or PDF, painted with matplotlib."""

from __future__ import annotations

from io import BytesIO
from itertools import chain
from typing import Literal, assert_never

from matplotlib import figure as matplotlib_figure
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

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

PIXELS_PER_INCH = 96
PNG_DPI = 2 * PIXELS_PER_INCH
POINTS_PER_PIXEL = 72 / PIXELS_PER_INCH
ALIGNMENTS = {"start": "left", "middle": "center", "end": "right"}


def render_matplotlib(figure: Figure, file_format: Literal["png", "pdf"], theme: Theme = "auto") -> bytes:
    """Return the contents of a file. The theme "auto" is light, as these formats can't follow a system's theme."""
    colours = DARK if theme == "dark" else LIGHT
    size = (figure.width / PIXELS_PER_INCH, figure.height / PIXELS_PER_INCH)
    page = matplotlib_figure.Figure(figsize=size, facecolor=colours.page)
    axes = page.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, figure.width)
    axes.set_ylim(figure.height, 0)
    axes.axis("off")
    for order, element in enumerate(figure.elements):
        _paint(axes, element, colours, order)
    # No date and no version, so that the same network gives the same file.
    metadata = {"CreationDate": None, "Producer": None, "Creator": None} if file_format == "pdf" else {"Software": None}
    file = BytesIO()
    page.savefig(file, format=file_format, dpi=PNG_DPI, metadata=metadata)
    return file.getvalue()


def _paint(axes: Axes, element: Element, colours: Colours, order: int) -> None:
    match element:
        case Box(x, y, width, height, kind, _, radius):
            fill, line = colours.boxes[kind]
            # matplotlib pads a box outwards by the radius of its corners, so it starts from a smaller one.
            corner, style = (x + radius, y + radius), f"round,pad={radius},rounding_size={radius}"
            extent = (width - 2 * radius, height - 2 * radius)
            axes.add_patch(FancyBboxPatch(corner, *extent, style, fc=fill, ec=line, lw=POINTS_PER_PIXEL, zorder=order))
        case Text(x, y, text, kind, size, anchor):
            colour, bold = text_style(kind)
            axes.text(
                x,
                y + 0.35 * size,  # the baseline: half the height of a capital letter below the middle
                text,
                ha=ALIGNMENTS[anchor],
                color=getattr(colours, colour),
                fontsize=size * POINTS_PER_PIXEL,
                fontweight="bold" if bold else "normal",
                parse_math=False,
                zorder=order,
            )
        case Line():
            _paint_line(axes, element, colours, order)
        case Mark(x, y):
            edge = {"ec": colours.line, "lw": 1.4 * POINTS_PER_PIXEL}
            axes.add_patch(Circle((x, y), MARK_RADIUS, fc=colours.page, zorder=order, **edge))
            for start, end in sign_strokes(element):
                axes.add_patch(PathPatch(Path([start, end]), zorder=order, **edge))
        case _:
            assert_never(element)


def _paint_line(axes: Axes, line: Line, colours: Colours, order: int) -> None:
    bends = list(rounded_corners(line))
    points = [line.points[0], *chain.from_iterable(bends), line.points[-1]]
    codes = [Path.MOVETO, *[Path.LINETO, Path.CURVE3, Path.CURVE3] * len(bends), Path.LINETO]
    style = (0, (5 / 1.4, 4 / 1.4)) if line.dashed else "solid"
    width = 1.4 * POINTS_PER_PIXEL
    axes.add_patch(PathPatch(Path(points, codes), fc="none", ec=colours.line, lw=width, ls=style, zorder=order))
    if line.arrow:
        axes.add_patch(Polygon(arrow_head(line), fc=colours.line, lw=0, zorder=order))
