"""Drawings: that all is drawn, in its place, in every format."""

from __future__ import annotations

import re
import resource
import shutil
import struct
import subprocess
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resnet_spec import load, loads
from resnet_spec.library import bundled
from resnet_spec.views.drawing import render as drawing
from resnet_spec.views.drawing.diagram import Cell, Column, ParallelItem, ResidualItem, build_diagram
from resnet_spec.views.drawing.figure import Box, Figure, Line, Mark, Text
from resnet_spec.views.drawing.layout import layout_figure
from resnet_spec.views.drawing.pieces import text_width
from resnet_spec.views.drawing.render import Format, draw
from resnet_spec.views.drawing.theme import DARK, LIGHT, Direction, Theme
from shared.command_line import run_cli

SVG = "{http://www.w3.org/2000/svg}"
CELLS = ("conv", "linear", "pool", "norm", "act", "closed")

NESTED = """
name: nested
input: [3, 40, 40]
blocks:
  inner:
    takes: {out: required}
    branch: {conv: {op: conv, out: out, kernel: 3, padding: 1}, se: {block: squeeze_excite, reduced: 4}}
  outer:
    takes: {out: required, stride: 1}
    before: {norm1: norm, act1: act}
    branch:
      conv1: {op: conv, out: out, kernel: 3, padding: 1, stride: stride, groups: 4}
      one: {block: inner, out: out}
      two: {block: inner, out: out}
    shortcut:
      pool: {op: avg_pool, kernel: 2, stride: stride}
      conv: {op: conv, out: out, kernel: 1}
      gate: {block: squeeze_excite, reduced: 2}
stem: {conv: {op: conv, out: 8, kernel: 1}}
stages: {only: {block: outer, depth: 3, out: 16, stride: 2}}
head: {pool: global_avg_pool, fc: {op: linear, out: 3}}
"""


def inside(box: Box, figure: Figure) -> bool:
    return box.x >= 0 and box.y >= 0 and box.x + box.width <= figure.width and box.y + box.height <= figure.height


def overlap(one: Box, other: Box) -> bool:
    across = one.x < other.x + other.width and other.x < one.x + one.width
    return across and one.y < other.y + other.height and other.y < one.y + one.height


def extent(text: Text) -> Box:
    width = text_width(text.text, text.size)
    left = {"start": text.x, "middle": text.x - width / 2, "end": text.x - width}[text.anchor]
    return Box(left, text.y - text.size / 2, width, text.size, "text", text.path)


def drawn_leaves(items: Column) -> list[str]:
    found: list[str] = []
    for item in items:
        match item:
            case Cell(leaves):
                found += [leaf.path for leaf in leaves]
            case ResidualItem():
                found += drawn_leaves((*item.before, *item.branch, *item.shortcut, *item.after))
            case ParallelItem(_, branches):
                found += [path for branch in branches for path in drawn_leaves(branch)]
    return found


@pytest.mark.parametrize("name", bundled.names()[::4])
def test_every_operation_is_drawn_once(name: str) -> None:
    network = load(name)
    frames = build_diagram(network, unfold=True)
    assert [path for frame in frames for block in frame.blocks for path in drawn_leaves(block.column)] == [
        leaf.path for leaf in network.leaves()
    ]


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("direction", ["across", "down"])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet152", "seresnet50", "preact_resnet18_cifar", "resnet50d", "nested"]
)
def test_nothing_covers_anything_else(name: str, direction: Direction, depth: int | None) -> None:
    drawn = layout_figure(loads(NESTED) if name == "nested" else load(name), depth=depth, direction=direction)
    cells = [shape for shape in drawn.shapes if isinstance(shape, Box) and shape.kind in CELLS]
    sizes = [extent(shape) for shape in drawn.shapes if isinstance(shape, Text) and shape.kind == "shape"]
    assert len(cells) >= 4
    assert len(sizes) >= 4
    assert [pair for pair in combinations((*cells, *sizes), 2) if overlap(*pair)] == []
    assert [box for box in (*cells, *sizes) if not inside(box, drawn)] == []


def test_text_fits_its_box() -> None:
    drawn = layout_figure(load("resnext50_32x4d"))
    boxes = [shape for shape in drawn.shapes if isinstance(shape, Box) and shape.kind in CELLS]
    texts = [
        shape for shape in drawn.shapes if isinstance(shape, Text) and shape.path and shape.kind in ("label", "note")
    ]
    for text in (extent(text) for text in texts if not text.path.count(".") < 2):
        assert any(box.x <= text.x and text.x + text.width <= box.x + box.width for box in boxes if overlap(box, text))


def test_identity_is_solid_and_projection_dashed() -> None:
    drawn = layout_figure(load("resnet18"))
    marks = [shape for shape in drawn.shapes if isinstance(shape, Mark)]
    beside = [shape for shape in drawn.shapes if isinstance(shape, Line) and shape.points[-1] in _meets(marks)]
    assert len(marks) == len(beside) == 7  # layer1's two blocks are one
    assert [line.dashed for line in beside] == [False, True, False, True, False, True, False]
    assert sum(isinstance(shape, Line) and shape.dashed for shape in drawn.shapes) == 2 * 3  # to a projection, and on


def _meets(marks: list[Mark]) -> set[tuple[float, float]]:
    return {(mark.x + side * 8, mark.y) for mark in marks for side in (-1, 1)}


def test_a_gate_multiplies() -> None:
    signs = [shape.sign for shape in layout_figure(load("seresnet50")).shapes if isinstance(shape, Mark)]
    assert signs == ["multiply", "add"] * 8


def test_repeated_blocks_are_folded_with_their_count() -> None:
    folded, unfolded = (layout_figure(load("resnet152"), unfold=unfold) for unfold in (False, True))
    counts = [shape.text for shape in folded.shapes if isinstance(shape, Text) and shape.kind == "count"]
    assert counts == ["× 2", "× 7", "× 35", "× 2"]
    assert not [shape for shape in unfolded.shapes if isinstance(shape, Text) and shape.kind == "count"]
    assert sum(isinstance(shape, Mark) for shape in unfolded.shapes) == 50


def test_shapes_stand_where_the_resolution_changes() -> None:
    sizes = [
        shape.text
        for shape in layout_figure(load("resnet18")).shapes
        if isinstance(shape, Text) and shape.kind == "shape"
    ]
    wanted = "3 × 224 × 224, 64 × 112 × 112, 64 × 56 × 56, 128 × 28 × 28, 256 × 14 × 14, 512 × 7 × 7, 512, 1000"
    assert set(sizes) == set(wanted.split(", "))


@pytest.mark.parametrize(
    ("theme", "colours"), [("light", {LIGHT.page}), ("dark", {DARK.page}), ("auto", {LIGHT.page, DARK.page})]
)
def test_svg_is_xml_in_the_theme_asked_for(theme: Theme, colours: set[str]) -> None:
    text = draw(load("resnet18"), "svg", theme=theme).decode()
    root = ElementTree.fromstring(text)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "layer1.0.conv1: 64x56x56 to 64x56x56, 36,864 parameters, 115,605,504 MACs" in titles
    assert {page for page in (LIGHT.page, DARK.page) if f".rs-page {{ fill: {page} }}" in text} == colours
    assert ("prefers-color-scheme: dark" in text) == (theme == "auto")


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_pixels_and_pages(form: Format) -> None:
    pytest.importorskip("matplotlib", reason="a drawing as PNG needs matplotlib, which is not installed")
    network = load("resnet18")
    data, drawn = draw(network, form), layout_figure(network)
    assert draw(network, form) == data  # nothing in it tells the time
    if form == "png":
        assert struct.unpack(">II", data[16:24]) == (int(drawn.width * 2), int(drawn.height * 2))
    else:
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", data)
        assert box and [float(side) for side in box.groups()] == pytest.approx(
            [drawn.width * 0.75, drawn.height * 0.75]
        )


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"^a drawing as PNG needs matplotlib, which is not installed; try: pip install "
    ):
        draw(load("resnet18"), "png")


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("name", ["resnet18", "seresnet50"])
def test_mermaid_names_nodes_before_it_ties_them(name: str, depth: int | None) -> None:
    text = draw(load(name), "mmd", depth=depth).decode()
    nodes = set(re.findall(r"^ *(n\d+)\(", text, re.MULTILINE))
    edges = re.findall(r"^ *(n\d+) -\.?->?(?:\|\"[^\"]*\"\|)? (n\d+)$", text, re.MULTILINE)
    assert len(edges) >= len(nodes) - 1
    assert {end for edge in edges for end in edge} == nodes
    assert text.count("subgraph ") == text.count("\n  end") + text.count("\n    end")


def test_mermaid_dashes_projections() -> None:
    text = draw(load("resnet18"), "mmd").decode()
    assert (text.count(" -.-> "), text.count(" --> ")) == (6, 27)  # ten of the solid ones have a label


@pytest.mark.parametrize("depth", [1, 2, None])
def test_graphviz_reads_what_we_write(depth: int | None) -> None:
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    done = subprocess.run(
        ["dot", "-Tplain"], input=draw(loads(NESTED), "dot", depth=depth), capture_output=True, check=True
    )
    assert done.stderr == b""
    assert done.stdout.startswith(b"graph")


@pytest.mark.parametrize("command", [["draw", "resnet152", "-o"], ["show", "resnet152", "--html"]])
def test_resnet152_takes_less_than_a_second(command: list[str], tmp_path: Path) -> None:
    """Of a processor, the start of Python and all imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_cli(*command, tmp_path / "resnet152.svg")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
