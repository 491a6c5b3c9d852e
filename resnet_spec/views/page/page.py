"""A page's text: HTML with its style, its script and its data in it, so that it works from a file, with no network."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from resnet_spec.diagnostics.problems import Source
from resnet_spec.network.network import Network
from resnet_spec.views.drawing.svg import css_rules
from resnet_spec.views.drawing.theme import DARK, LIGHT
from resnet_spec.views.page.parts import page_data
from resnet_spec.views.page.stages import render_stages

SCRIPTS = ("select.js", "drawing.js", "table.js", "source.js", "page.js")
DARK_PAGE = ':root[data-theme="dark"] '
DARK_SYSTEM = ':root:not([data-theme="light"]) '


def render_page(network: Network, sources: Iterable[Source] = ()) -> str:
    """One self-contained page of a network. ``sources`` are shown first among the files that it was made from.

    >>> from resnet_spec import load
    >>> render_page(load("resnet18")).startswith("<!doctype html>")
    True
    """
    return render_document(network.name, page_content(network, sources), live=False)


def page_content(network: Network, sources: Iterable[Source] = ()) -> dict[str, Any]:
    """What a page shows of a network, as data for its script."""
    return {**page_data(network, sources), "drawing": render_stages(network)}


def render_document(title: str, shown: dict[str, Any], *, live: bool) -> str:
    """The whole page about its data. A live one asks its server for what has changed."""
    script = _script()
    digest = b64encode(sha256(script.encode()).digest()).decode()
    # What was not written here can't run, and nothing is asked of anyone but, for a live page, of its own server.
    policy = "; ".join(
        [
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'",
            "img-src data:",
            "base-uri 'none'",
        ]
        + (["connect-src 'self'"] if live else [])
    )
    filled = {
        "POLICY": escape(policy),
        "TITLE": escape(title),
        "STYLE": _style(),
        "DATA": _json({**shown, "live": live}),
        "SCRIPT": script,
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: filled[found[1]], _file("page.html"))


def _json(value: object) -> str:
    """JSON that no text in it can end: a "<" would be able to close the script that holds it."""
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
