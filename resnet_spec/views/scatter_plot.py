"""A scatter plot of networks with matplotlib: parameters against MACs, with the memory of activations as the area."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import Bbox

from resnet_spec.views.drawing.theme import DARK, LIGHT, Colours, Theme
from resnet_spec.views.table import Row, format_count

Format: TypeAlias = Literal["svg", "png", "pdf"]

MAX_AREA = 900.0  # area of the largest point, in square points of type
LEGEND_SPACING: dict[str, Any] = {"labelspacing": 1.7, "borderpad": 1.2, "handletextpad": 1.4}
LABEL_PLACES = ((1, 0, "left"), (-1, 0, "right"), (0, 1, "center"), (0, -1, "center"))
"""Where a label may be placed, in order of preference: right of its point, left, above, below.

Each is a direction (x, y) and the horizontal alignment of the text.
"""


@dataclass(frozen=True, slots=True)
class Point:
    """A network in the plot: its costs, and the area of its marker in square points of type."""

    name: str
    macs: float
    parameters: float
    memory: float
    area: float


def draw_scatter_plot(rows: Sequence[Row], file_format: Format, theme: Theme = "auto") -> bytes:
    """Return the contents of a file. ``rows`` are those of ``compare_networks``; the theme "auto" is light."""
    colours = DARK if theme == "dark" else LIGHT
    max_memory = max(_number(row, "memory") for row in rows)
    points = [_make_point(row, max_memory) for row in rows]
    figure = Figure(figsize=(8, 5.4), facecolor=colours.page, layout="constrained")
    axes = figure.add_subplot()
    for point in points:
        axes.scatter(point.macs, point.parameters, point.area, color=colours.boxes["conv"][1], alpha=0.6)
    _style_axes(axes, colours, points)
    _add_size_legend(axes, colours, max_memory)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # lays out the axes: labels are placed by their extents on the canvas
    _label_points(axes, canvas.get_renderer(), points, colours)
    # Leave dates and versions out of the metadata.
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }
    file = BytesIO()
    figure.savefig(file, format=file_format, dpi=160, metadata=metadata[file_format])
    return file.getvalue()


def _make_point(row: Row, max_memory: float) -> Point:
    macs, parameters, memory = (_number(row, name) for name in ("macs", "parameters", "memory"))
    return Point(str(row.values["network"]), macs, parameters, memory, MAX_AREA * memory / max_memory)


def _number(row: Row, name: str) -> float:
    value = row.values[name]
    assert isinstance(value, int | float)
    return value


def _style_axes(axes: Axes, colours: Colours, points: Sequence[Point]) -> None:
    axes.set(xlabel="MACs", ylabel="parameters", facecolor=colours.boxes["frame"][0])
    xs, ys = [point.macs for point in points], [point.parameters for point in points]
    for axis, set_scale, values in ((axes.xaxis, axes.set_xscale, xs), (axes.yaxis, axes.set_yscale, ys)):
        if max(values) > 8 * min(values) > 0:
            set_scale("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: format_count(max(0, int(value)))))
        axis.set_minor_formatter(NullFormatter())
        axis.label.set_color(colours.strong)
    axes.margins(0.18)
    axes.tick_params(colors=colours.muted)
    axes.grid(color=colours.boxes["frame"][1], linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(colours.boxes["frame"][1])


def _add_size_legend(axes: Axes, colours: Colours, max_memory: float) -> None:
    """Show the memory that three sizes of points stand for."""
    for fraction in (1 / 4, 1 / 2, 1):
        memory = float(f"{fraction * max_memory:.2g}")
        label, area = f"{memory / 1e6:.3g} MB", MAX_AREA * memory / max_memory
        axes.scatter([], [], area, color=colours.boxes["conv"][1], alpha=0.6, label=label)
    legend = axes.legend(title="activations, float32", labelcolor=colours.strong, **LEGEND_SPACING)
    legend.get_frame().set(facecolor=colours.page, edgecolor=colours.boxes["frame"][1])
    legend.get_title().set_color(colours.muted)


def _label_points(axes: Axes, renderer: RendererAgg, points: Sequence[Point], colours: Colours) -> None:
    """Write each name beside its point, at the first place where it covers nothing else."""
    legend = axes.get_legend()
    occupied = [legend.get_window_extent(renderer)] if legend else []
    occupied += [_marker_bounds(axes, point) for point in points]
    for point in points:
        distance = math.sqrt(point.area / math.pi) + 3
        for dx, dy, alignment in LABEL_PLACES:
            offset = (dx * distance, dy * (distance + 5))
            place: dict[str, Any] = {"xytext": offset, "textcoords": "offset points", "ha": alignment, "va": "center"}
            position = (point.macs, point.parameters)
            text = axes.annotate(point.name, position, color=colours.strong, fontsize=9.5, **place)
            box = text.get_window_extent(renderer)
            is_inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            is_free = is_inside and not any(box.overlaps(other) for other in occupied)
            if is_free or (dx, dy, alignment) == LABEL_PLACES[-1]:
                occupied.append(box)
                break
            text.remove()


def _marker_bounds(axes: Axes, point: Point) -> Bbox:
    x, y = axes.transData.transform((point.macs, point.parameters))
    figure = axes.get_figure(root=True)
    assert figure is not None
    radius = math.sqrt(point.area / math.pi) * figure.dpi / 72
    return Bbox([(x - radius, y - radius), (x + radius, y + radius)])
