"""The looks of drawings: light and dark colours, the font, and the styles of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Theme: TypeAlias = Literal["auto", "light", "dark"]
Direction: TypeAlias = Literal["across", "down"]

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True, slots=True)
class Colours:
    """The colours of a theme.

    ``strong``, ``muted`` and ``accent`` are for text; ``boxes`` holds the fill and the outline of each kind of box.
    """

    page: str
    strong: str
    muted: str
    line: str
    accent: str
    boxes: dict[str, tuple[str, str]]


LIGHT = Colours(
    page="#ffffff",
    strong="#1c2430",
    muted="#5b6675",
    line="#596675",
    accent="#a8410b",
    boxes={
        "frame": ("#f4f6f9", "#d5dbe3"),
        "block": ("#ffffff", "#cfd6df"),
        "behind": ("#ffffff", "#cfd6df"),
        "closed": ("#e8eef7", "#a9bbd4"),
        "conv": ("#dbe8fb", "#6b94cf"),
        "linear": ("#dcf0df", "#69a877"),
        "pool": ("#fdebd0", "#d39a4a"),
        "norm": ("#eceff3", "#b7c0cb"),
        "act": ("#eceff3", "#b7c0cb"),
    },
)
DARK = Colours(
    page="#10151c",
    strong="#e6ebf2",
    muted="#9aa7b6",
    line="#8f9bab",
    accent="#ffa566",
    boxes={
        "frame": ("#171e27", "#313c4a"),
        "block": ("#1d2631", "#3b4858"),
        "behind": ("#1d2631", "#3b4858"),
        "closed": ("#24344a", "#4f6c92"),
        "conv": ("#20395c", "#5b87c5"),
        "linear": ("#1f4028", "#5d9f6c"),
        "pool": ("#4a3416", "#c08b41"),
        "norm": ("#2a3441", "#566374"),
        "act": ("#2a3441", "#566374"),
    },
)


def text_style(kind: str) -> tuple[Literal["strong", "muted", "accent"], bool]:
    """Return the colour of a kind of text, by its name in ``Colours``, and whether the text is bold."""
    match kind:
        case "title" | "name":
            return "strong", True
        case "count":
            return "accent", True
        case "label":
            return "strong", False
        case _:
            return "muted", False
