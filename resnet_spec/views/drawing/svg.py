"""Figures as SVG, which may follow the light or dark theme of the reader's system."""

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
    """Return the contents of a file.

    ``titles`` are the tooltips of parts, by path; ``about`` describes the image to screen readers.

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
            *render_elements(figure.elements, titles or {}),
            "</svg>\n",
        ]
    )


def stylesheet(theme: Theme) -> str:
    """Return the CSS of a drawing. The theme "auto" follows the reader's system."""
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
    """Yield the CSS rules for one set of colours, for drawings inside elements that match the selector ``within``."""
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


def render_elements(elements: Iterable[Element], titles: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield the SVG of each element. Those that show a part of the network have its path in ``data-path``."""
    titles = titles or {}
    for element in elements:
        match element:
            case Box():
                yield _box(element, titles.get(element.path, ""))
            case Text():
                yield _text(element)
            case Line():
                yield _line(element)
            case Mark():
                yield _mark(element)
            case _:
                assert_never(element)


def _box(box: Box, title: str) -> str:
    place = _attributes({"x": box.x, "y": box.y, "width": box.width, "height": box.height, "rx": box.radius})
    start = f'<rect class="rs-{box.kind}" {place}{_path_attribute(box.path)}'
    return f"{start}><title>{escape(title)}</title></rect>" if title else f"{start}/>"


def _text(text: Text) -> str:
    colour, bold = text_style(text.kind)
    classes = f"rs-text rs-{colour}" + (" rs-bold" if bold else "")
    # The baseline is half the height of a capital letter below the middle; not every viewer knows dominant-baseline.
    place = _attributes({"x": text.x, "y": text.y + 0.35 * text.size, "font-size": text.size})
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    plain = [escape(span) for span, path in text.spans if path == text.path]
    spans = [f"<tspan{_path_attribute(path)}>{escape(span)}</tspan>" for span, path in text.spans if path != text.path]
    content = " · ".join([*plain, *spans]) or escape(text.text)
    return f'<text class="{classes}" {place}{anchor}{_path_attribute(text.path)}>{content}</text>'


def _line(line: Line) -> str:
    bends = "".join(
        f"L{_coordinates(before)}Q{_coordinates(corner)} {_coordinates(after)}"
        for before, corner, after in rounded_corners(line)
    )
    data = f"M{_coordinates(line.points[0])}{bends}L{_coordinates(line.points[-1])}"
    path = f'<path class="{"rs-line rs-dashed" if line.dashed else "rs-line"}" d="{data}"/>'
    if not line.arrow:
        return path
    return f'{path}<path class="rs-head" d="M{" ".join(map(_coordinates, arrow_head(line)))}Z"/>'


def _mark(mark: Mark) -> str:
    place = _attributes({"cx": mark.x, "cy": mark.y, "r": MARK_RADIUS})
    strokes = "".join(f"M{_coordinates(start)} {_coordinates(end)}" for start, end in sign_strokes(mark))
    return f'<circle class="rs-mark" {place}{_path_attribute(mark.path)}/><path class="rs-line" d="{strokes}"/>'


def _path_attribute(path: str) -> str:
    return f' data-path="{escape(path)}"' if path else ""


def _attributes(values: Mapping[str, float]) -> str:
    return " ".join(f'{name}="{_number(value)}"' for name, value in values.items())


def _coordinates(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
