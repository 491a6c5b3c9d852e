"""Write the gallery, one page with every bundled network: ``python docs/gallery_page.py FOLDER``.

The page needs no server and loads nothing from another one. Its pictures are files beside it, loaded when they are
looked at; the specs are packed into the page. MkDocs uses this module as a hook. It draws the pictures, which takes a
minute, if the environment variable GALLERY_PICTURES is set; the page does without those that are not there.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import sys
from pathlib import Path
from string import Template
from typing import Any

from resnet_spec import load
from resnet_spec.library.bundled import network_files
from resnet_spec.library.index import Entry, read_index
from resnet_spec.library.published import PublishedWeights, find_published
from resnet_spec.views.drawing.render import draw

HERE = Path(__file__).parent / "gallery"
KEYS = ("name", "parameters", "macs", "input", "source", "paper", "weights")
WEIGHT_KEYS = ("tag", "accuracy", "at", "labels", "license", "open", "default")
PICTURE_DEPTH = 2
"""Blocks are drawn, and not their layers: a picture of a thousand layers shows nothing at this size."""


def describe_weights(weights: PublishedWeights) -> list[Any]:
    """Return the values of ``WEIGHT_KEYS`` for published weights."""
    free = not weights.is_restricted
    return [weights.tag, weights.acc1, weights.acc1_at, weights.labels, weights.license, free, weights.default]


def describe_network(entry: Entry) -> list[Any]:
    """Return the values of ``KEYS`` for a network."""
    paper = re.split(r", as in|;", entry.source)[0]
    weights = [describe_weights(each) for each in find_published(entry.name)]
    return [entry.name, entry.parameters, entry.macs, list(entry.input), entry.source, paper, weights]


def render_page() -> str:
    """Return the HTML of the page."""
    entries = read_index()
    files = network_files()
    data = {"keys": KEYS, "weightKeys": WEIGHT_KEYS, "networks": [describe_network(entry) for entry in entries]}
    specs = json.dumps([files[entry.name].read_text(encoding="utf-8") for entry in entries], ensure_ascii=False)
    packed = gzip.compress(specs.encode(), compresslevel=9, mtime=0)
    return Template((HERE / "gallery.html").read_text(encoding="utf-8")).substitute(
        style=(HERE / "gallery.css").read_text(encoding="utf-8"),
        script=(HERE / "gallery.js").read_text(encoding="utf-8"),
        data=json.dumps(data, separators=(",", ":")).replace("</", "<\\/"),
        specs=base64.b64encode(packed).decode(),
    )


def draw_picture(name: str) -> bytes:
    """Return the SVG of a network's blocks."""
    return draw(load(name), "svg", depth=PICTURE_DEPTH)


def on_files(files: Any, config: Any) -> Any:
    """Add the page, and its pictures if they are asked for, to the site that MkDocs builds."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "gallery/index.html", content=render_page()))
    for name in network_files() if os.environ.get("GALLERY_PICTURES") else ():
        files.append(File.generated(config, f"gallery/pictures/{name}.svg", content=draw_picture(name)))
    return files


def main(folder: Path) -> None:
    """Write the page and all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(render_page(), encoding="utf-8", newline="\n")
    for name in network_files():
        path = folder / "pictures" / f"{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_picture(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
