"""A figure as SVG: it needs nothing but a browser, and turns dark where its reader's pages are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import assert_never

from resnet_spec.views.drawing.figure import (
    MARK_RADIUS,
    Box,
    Element,
    Figure,
    Line,
    Mark,
    Point,
    Text,
    arrow_head,
    rounded_corners,
    sign_strokes,
)
from resnet_spec.views.drawing.theme import DARK, FONT, LIGHT, Colours, Theme, text_style


def render_svg(figure: Figure, theme: Theme = "auto", titles: Mapping[str, str] | None = None, about: str = "") -> str:
    """A whole file. ``titles`` are what a browser shows of each part when it is pointed at.

    >>> print(render_svg(Figure(20, 10, (Box(0, 0, 20, 10, "conv"),)), "light").splitlines()[-2])
    <rect class="rs-conv" x="0" y="0" width="20" height="10" rx="5"/>
    """
    width, height = _number(figure.width), _number(figure.height)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'{head} role="img" aria-label="{escape(about)}">',
            f"<style>\n{stylesheet(theme)}\n</style>",
            f'<rect class="rs-page" width="{width}" height="{height}" rx="8"/>',
            *render_elements(figure.shapes, titles or {}),
            "</svg>\n",
        ]
    )


def stylesheet(theme: Theme) -> str:
    """The rules of a drawing's classes; "auto" follows what the reader's system asks for."""
    match theme:
        case "light":
            return "\n".join(css_rules(LIGHT))
        case "dark":
            return "\n".join(css_rules(DARK))
        case "auto":
            dark = "\n".join(css_rules(DARK))
            return "\n".join([*css_rules(LIGHT), f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}"])
        case _:
            assert_never(theme)


def css_rules(colours: Colours, within: str = "") -> Iterator[str]:
    """The rules for one set of colours, for drawings within a selector."""
    yield f"{within}.rs-page {{ fill: {colours.page} }}"
    for kind, (fill, line) in colours.boxes.items():
        yield f"{within}.rs-{kind} {{ fill: {fill}; stroke: {line} }}"
    yield f"{within}.rs-line {{ fill: none; stroke: {colours.line}; stroke-width: 1.4 }}"
    yield f"{within}.rs-dashed {{ stroke-dasharray: 5 4 }}"
    yield f"{within}.rs-head {{ fill: {colours.line} }}"
    yield f"{within}.rs-mark {{ fill: {colours.page}; stroke: {colours.line}; stroke-width: 1.4 }}"
    yield f"{within}.rs-text {{ font-family: {FONT} }}"
    yield f"{within}.rs-strong {{ fill: {colours.strong} }}"
    yield f"{within}.rs-muted {{ fill: {colours.muted} }}"
    yield f"{within}.rs-accent {{ fill: {colours.accent} }}"
    yield f"{within}.rs-bold {{ font-weight: 600 }}"


def render_elements(shapes: Iterable[Element], titles: Mapping[str, str] | None = None) -> Iterator[str]:
    """Shapes as elements of SVG. What shows a part carries its path in ``data-path``."""
    titles = titles or {}
    for shape in shapes:
        match shape:
            case Box():
                yield _box(shape, titles.get(shape.path, ""))
            case Text():
                yield _text(shape)
            case Line():
                yield _line(shape)
            case Mark():
                yield _mark(shape)
            case _:
                assert_never(shape)


def _box(box: Box, title: str) -> str:
    place = f'x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" height="{_number(box.height)}" rx="{_number(box.radius)}"'
    open_ = f'<rect class="rs-{box.kind}" {place}{_path_attribute(box.path)}'
    return f"{open_}><title>{escape(title)}</title></rect>" if title else f"{open_}/>"


def _text(text: Text) -> str:
    colour, bold = text_style(text.kind)
    classes = f"rs-text rs-{colour}" + (" rs-bold" if bold else "")
    # half of a capital's height below the middle: not every viewer knows dominant-baseline
    place = f'x="{_number(text.x)}" y="{_number(text.y + 0.35 * text.size)}" font-size="{_number(text.size)}"'
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    spans = [f"<tspan{_path_attribute(path)}>{escape(span)}</tspan>" for span, path in text.spans if path != text.path]
    plain = [escape(span) for span, path in text.spans if path == text.path]
    inside = " · ".join([*plain, *spans]) or escape(text.text)
    return f'<text class="{classes}" {place}{anchor}{_path_attribute(text.path)}>{inside}</text>'


def _line(line: Line) -> str:
    bends = "".join(
        f"L{_coordinates(before)}Q{_coordinates(corner)} {_coordinates(after)}"
        for before, corner, after in rounded_corners(line)
    )
    way = f"M{_coordinates(line.points[0])}{bends}L{_coordinates(line.points[-1])}"
    drawn = f'<path class="{"rs-line rs-dashed" if line.dashed else "rs-line"}" d="{way}"/>'
    return (
        f'{drawn}<path class="rs-head" d="M{" ".join(map(_coordinates, arrow_head(line)))}Z"/>' if line.arrow else drawn
    )


def _mark(mark: Mark) -> str:
    sign = "".join(f"M{_coordinates(start)} {_coordinates(end)}" for start, end in sign_strokes(mark))
    circle = f'<circle class="rs-mark" cx="{_number(mark.x)}" cy="{_number(mark.y)}" r="{_number(MARK_RADIUS)}"{_path_attribute(mark.path)}/>'
    return f'{circle}<path class="rs-line" d="{sign}"/>'


def _path_attribute(path: str) -> str:
    return f' data-path="{escape(path)}"' if path else ""


def _coordinates(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
