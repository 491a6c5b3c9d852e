"""Networks as points: parameters against multiplications, as large as their activations. Drawn by matplotlib."""

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
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")

MAX_AREA = 900.0  # the area of the largest point, in square points of type
LEGEND_SPACING: dict[str, Any] = {"labelspacing": 1.7, "borderpad": 1.2, "handletextpad": 1.4}
LABEL_PLACES = ((1, 0, "left"), (-1, 0, "right"), (0, 1, "center"), (0, -1, "center"))
"""Where a name may stand, seen from its point: to the right, to the left, above, below."""


@dataclass(frozen=True, slots=True)
class Point:
    """A network as a point: what it costs, and the area that it is drawn in."""

    name: str
    macs: float
    parameters: float
    memory: float
    area: float


def draw_scatter_plot(rows: Sequence[Row], form: Format, theme: Theme = "auto") -> bytes:
    """A whole file. ``rows`` are those of ``resnet_spec.views.table.compare_networks``; "auto" is light."""
    colours = DARK if theme == "dark" else LIGHT
    largest = max(_number(row, "memory") for row in rows)
    spots = [_make_point(row, largest) for row in rows]
    sheet = Figure(figsize=(8, 5.4), facecolor=colours.page, layout="constrained")
    axes = sheet.add_subplot()
    for spot in spots:
        axes.scatter(spot.macs, spot.parameters, spot.area, color=colours.boxes["conv"][1], alpha=0.6)
    _style_axes(axes, colours, spots)
    _add_size_legend(axes, colours, largest)
    canvas = FigureCanvasAgg(sheet)
    canvas.draw()  # places are known once all is laid out
    _label_points(axes, canvas.get_renderer(), spots, colours)
    nameless: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    file = BytesIO()
    sheet.savefig(file, format=form, dpi=160, metadata=nameless)
    return file.getvalue()


def _make_point(row: Row, largest: float) -> Point:
    macs, parameters, memory = (_number(row, name) for name in ("macs", "parameters", "memory"))
    return Point(str(row.values["network"]), macs, parameters, memory, MAX_AREA * memory / largest)


def _number(row: Row, name: str) -> float:
    value = row.values[name]
    assert isinstance(value, int | float)
    return value


def _style_axes(axes: Axes, colours: Colours, spots: Sequence[Point]) -> None:
    axes.set(xlabel="MACs", ylabel="parameters", facecolor=colours.boxes["frame"][0])
    across, up = [spot.macs for spot in spots], [spot.parameters for spot in spots]
    for axis, set_scale, values in ((axes.xaxis, axes.set_xscale, across), (axes.yaxis, axes.set_yscale, up)):
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


def _add_size_legend(axes: Axes, colours: Colours, largest: float) -> None:
    """What three sizes of points mean."""
    for part in (1 / 4, 1 / 2, 1):
        size = float(f"{part * largest:.2g}")
        label, area = f"{size / 1e6:.3g} MB", MAX_AREA * size / largest
        axes.scatter([], [], area, color=colours.boxes["conv"][1], alpha=0.6, label=label)
    legend = axes.legend(title="activations, float32", labelcolor=colours.strong, **LEGEND_SPACING)
    legend.get_frame().set(facecolor=colours.page, edgecolor=colours.boxes["frame"][1])
    legend.get_title().set_color(colours.muted)


def _label_points(axes: Axes, renderer: RendererAgg, spots: Sequence[Point], colours: Colours) -> None:
    """Each name beside its point, where it covers no other."""
    legend = axes.get_legend()
    taken = [legend.get_window_extent(renderer)] if legend else []
    taken += [_marker_bounds(axes, spot) for spot in spots]
    for spot in spots:
        away = math.sqrt(spot.area / math.pi) + 3
        for dx, dy, side in LABEL_PLACES:
            at = {"xytext": (dx * away, dy * (away + 5)), "textcoords": "offset points", "ha": side}
            look: dict[str, Any] = {"va": "center", "color": colours.strong, "fontsize": 9.5, **at}
            text = axes.annotate(spot.name, (spot.macs, spot.parameters), **look)
            box = text.get_window_extent(renderer)
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            if (dx, dy, side) == LABEL_PLACES[-1] or (inside and not any(box.overlaps(other) for other in taken)):
                taken.append(box)
                break
            text.remove()


def _marker_bounds(axes: Axes, spot: Point) -> Bbox:
    x, y = axes.transData.transform((spot.macs, spot.parameters))
    figure = axes.get_figure(root=True)
    assert figure is not None
    radius = math.sqrt(spot.area / math.pi) * figure.dpi / 72
    return Bbox([(x - radius, y - radius), (x + radius, y + radius)])
