"""The HTML of a page, which contains its style, script and data, so that it works offline from a file."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any, Literal

from resnet_spec.diagnostics.problems import Source, one_line
from resnet_spec.network.network import Network
from resnet_spec.views.drawing.svg import css_rules
from resnet_spec.views.drawing.theme import DARK, LIGHT
from resnet_spec.views.page.parts import page_data
from resnet_spec.views.page.stages import render_stages

SCRIPTS = ("select.js", "drawing.js", "table.js", "source.js", "page.js")
DARK_PAGE = ':root[data-theme="dark"] '
DARK_SYSTEM = ':root:not([data-theme="light"]) '


def render_page(network: Network, sources: Iterable[Source] = ()) -> str:
    """Return a self-contained page of a network. ``sources`` are the spec's own files, which are shown first.

    >>> from resnet_spec import load
    >>> render_page(load("resnet18")).startswith("<!doctype html>")
    True
    """
    return render_document(one_line(network.name), page_content(network, sources), live=False)


def page_content(network: Network, sources: Iterable[Source] = ()) -> dict[str, Any]:
    """Return everything that the page of a network shows, as data for its script."""
    return {**page_data(network, sources), "drawing": render_stages(network)}


def render_document(title: str, content: dict[str, Any], *, live: bool | Literal["parent"]) -> str:
    """Return the HTML of a page. A live page asks its server for changes, or receives them from the page around it."""
    script = _script()
    digest = b64encode(sha256(script.encode()).digest()).decode()
    # Only this script may run, and nothing is fetched, except that a live page asks its own server for changes.
    policy = "; ".join(
        [
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'",
            "img-src data:",
            "base-uri 'none'",
        ]
        + (["connect-src 'self'"] if live is True else [])
    )
    values = {
        "POLICY": escape(policy),
        "TITLE": escape(title),
        "STYLE": _style(),
        "DATA": _json({**content, "live": live}),
        "SCRIPT": script,
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: values[match[1]], _file("page.html"))


def _json(value: object) -> str:
    """Return JSON that is safe inside a script element: "<" is escaped, so that no text can close the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _script() -> str:
    return "\n".join(["'use strict';", *map(_file, SCRIPTS)])


@cache
def _style() -> str:
    dark = "\n".join(css_rules(DARK, DARK_PAGE))
    system = "\n".join(css_rules(DARK, DARK_SYSTEM))
    shapes = "\n".join([*css_rules(LIGHT), dark, f"@media (prefers-color-scheme: dark) {{\n{system}\n}}"])
    return f"{shapes}\n{_file('page.css')}"


def _file(name: str) -> str:
    return (files("resnet_spec.views.page") / name).read_text(encoding="utf-8")
