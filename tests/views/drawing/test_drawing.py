"""Drawings: every operation is drawn, nothing overlaps, and every file format is valid."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resnet_spec import load, loads
from resnet_spec.library import bundled
from resnet_spec.views.drawing import render
from resnet_spec.views.drawing.diagram import Cell, Column, ParallelItem, ResidualItem, build_diagram
from resnet_spec.views.drawing.figure import MARK_RADIUS, Box, Figure, Line, Mark, Text
from resnet_spec.views.drawing.layout import layout_figure
from resnet_spec.views.drawing.pieces import text_width
from resnet_spec.views.drawing.render import Format, draw
from resnet_spec.views.drawing.theme import DARK, LIGHT, Direction, Theme
from resnet_spec.views.page.page import render_page
from shared.bundled_networks import bundled_network
from shared.machine_speed import count_calls
from shared.sampling import one_in

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


def is_inside(box: Box, figure: Figure) -> bool:
    return box.x >= 0 and box.y >= 0 and box.x + box.width <= figure.width and box.y + box.height <= figure.height


def overlap(first: Box, second: Box) -> bool:
    horizontally = first.x < second.x + second.width and second.x < first.x + first.width
    return horizontally and first.y < second.y + second.height and second.y < first.y + first.height


def cells_of(figure: Figure) -> list[Box]:
    return [element for element in figure.elements if isinstance(element, Box) and element.kind in CELLS]


def texts_of(figure: Figure, *kinds: str) -> list[Text]:
    return [element for element in figure.elements if isinstance(element, Text) and element.kind in kinds]


def marks_of(figure: Figure) -> list[Mark]:
    return [element for element in figure.elements if isinstance(element, Mark)]


def lines_of(figure: Figure) -> list[Line]:
    return [element for element in figure.elements if isinstance(element, Line)]


def extent(text: Text) -> Box:
    width = text_width(text.text, text.size)
    left = {"start": text.x, "middle": text.x - width / 2, "end": text.x - width}[text.anchor]
    return Box(left, text.y - text.size / 2, width, text.size, "text", text.path)


def drawn_leaves(items: Column) -> list[str]:
    """Return the paths of all operations that the items show, in order."""
    paths: list[str] = []
    for item in items:
        match item:
            case Cell(leaves):
                paths += [leaf.path for leaf in leaves]
            case ResidualItem():
                paths += drawn_leaves((*item.before, *item.branch, *item.shortcut, *item.after))
            case ParallelItem(_, branches):
                paths += [path for branch in branches for path in drawn_leaves(branch)]
    return paths


@pytest.mark.parametrize("name", one_in(16, bundled.names()))
def test_every_operation_is_drawn_once(name: str) -> None:
    network = bundled_network(name)
    frames = build_diagram(network, unfold=True)
    drawn = [path for frame in frames for block in frame.blocks for path in drawn_leaves(block.column)]
    assert drawn == [leaf.path for leaf in network.leaves()]


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("direction", ["across", "down"])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet152", "seresnet50", "preact_resnet18_cifar", "resnet50d", "nested"]
)
def test_nothing_overlaps(name: str, direction: Direction, depth: int | None) -> None:
    figure = layout_figure(loads(NESTED) if name == "nested" else load(name), depth=depth, direction=direction)
    cells = cells_of(figure)
    shapes = [extent(text) for text in texts_of(figure, "shape")]
    assert len(cells) >= 4
    assert len(shapes) >= 4
    assert [pair for pair in combinations((*cells, *shapes), 2) if overlap(*pair)] == []
    assert [box for box in (*cells, *shapes) if not is_inside(box, figure)] == []


def test_text_fits_its_box() -> None:
    figure = layout_figure(load("resnext50_32x4d"))
    boxes = cells_of(figure)
    # Labels and notes of the layers inside blocks, such as layer1.0.conv1.
    texts = [extent(text) for text in texts_of(figure, "label", "note") if text.path.count(".") >= 2]
    for text in texts:
        assert any(box.x <= text.x and text.x + text.width <= box.x + box.width for box in boxes if overlap(box, text))


def test_an_identity_shortcut_is_solid_and_a_projection_dashed() -> None:
    figure = layout_figure(load("resnet18"))
    marks, lines = marks_of(figure), lines_of(figure)
    sides = {(mark.x + side * MARK_RADIUS, mark.y) for mark in marks for side in (-1, 1)}
    shortcuts = [line for line in lines if line.points[-1] in sides]
    assert len(marks) == len(shortcuts) == 7  # layer1's two blocks are folded
    assert [line.dashed for line in shortcuts] == [False, True, False, True, False, True, False]
    assert sum(line.dashed for line in lines) == 2 * 3  # one to each projection, and one from it


def test_a_gate_is_drawn_as_a_product() -> None:
    signs = [mark.sign for mark in marks_of(layout_figure(load("seresnet50")))]
    assert signs == ["multiply", "add"] * 8


def test_blocks_that_differ_in_the_rate_of_stochastic_depth_alone_are_folded() -> None:
    """The rate grows from block to block, and a drawing does not show it."""
    names = [
        [block.name for frame in build_diagram(load("resnet50", drop_path=rate)) for block in frame.blocks]
        for rate in (0, 0.1)
    ]
    assert names[0] == names[1]
    assert "layer3.1-5" in names[1]


def test_repeated_blocks_are_folded_and_counted() -> None:
    folded, unfolded = (layout_figure(load("resnet152"), unfold=unfold) for unfold in (False, True))
    assert [text.text for text in texts_of(folded, "count")] == ["× 2", "× 7", "× 35", "× 2"]
    assert texts_of(unfolded, "count") == []
    assert len(marks_of(unfolded)) == 50


def test_shapes_are_written_where_the_resolution_changes() -> None:
    shapes = {text.text for text in texts_of(layout_figure(load("resnet18")), "shape")}
    expected = "3 × 224 × 224, 64 × 112 × 112, 64 × 56 × 56, 128 × 28 × 28, 256 × 14 × 14, 512 × 7 × 7, 512, 1000"
    assert shapes == set(expected.split(", "))


@pytest.mark.parametrize(
    ("theme", "colours"), [("light", {LIGHT.page}), ("dark", {DARK.page}), ("auto", {LIGHT.page, DARK.page})]
)
def test_svg_is_valid_xml_in_the_requested_theme(theme: Theme, colours: set[str]) -> None:
    text = draw(load("resnet18"), "svg", theme=theme).decode()
    root = ElementTree.fromstring(text)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "layer1.0.conv1: 64x56x56 to 64x56x56, 36,864 parameters, 115,605,504 MACs" in titles
    assert {page for page in (LIGHT.page, DARK.page) if f".rs-page {{ fill: {page} }}" in text} == colours
    assert ("prefers-color-scheme: dark" in text) == (theme == "auto")


@pytest.mark.parametrize("file_format", ["png", "pdf"])
@pytest.mark.share(2)
def test_png_and_pdf_have_the_size_of_the_figure(file_format: Format) -> None:
    pytest.importorskip("matplotlib", reason="a drawing as PNG needs matplotlib, which is not installed")
    network = load("resnet18")
    data, figure = draw(network, file_format), layout_figure(network)
    assert draw(network, file_format) == data  # the file contains no time
    if file_format == "png":
        assert struct.unpack(">II", data[16:24]) == (int(figure.width * 2), int(figure.height * 2))
    else:
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", data)
        assert box
        assert [float(side) for side in box.groups()] == pytest.approx([figure.width * 0.75, figure.height * 0.75])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"^a drawing as PNG needs matplotlib, which is not installed; try: pip install "
    ):
        draw(load("resnet18"), "png")


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("name", ["resnet18", "seresnet50"])
def test_mermaid_edges_connect_all_nodes(name: str, depth: int | None) -> None:
    text = draw(load(name), "mmd", depth=depth).decode()
    nodes = set(re.findall(r"^ *(n\d+)\(", text, re.MULTILINE))
    edges = re.findall(r"^ *(n\d+) -\.?->?(?:\|\"[^\"]*\"\|)? (n\d+)$", text, re.MULTILINE)
    assert len(edges) >= len(nodes) - 1
    assert {end for edge in edges for end in edge} == nodes
    assert text.count("subgraph ") == text.count("\n  end") + text.count("\n    end")


def test_mermaid_dashes_projections() -> None:
    text = draw(load("resnet18"), "mmd").decode()
    assert (text.count(" -.-> "), text.count(" --> ")) == (6, 27)  # ten more solid edges have a label


@pytest.mark.parametrize("depth", [1, 2, None])
def test_graphviz_accepts_the_dot_file(depth: int | None) -> None:
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    done = subprocess.run(
        ["dot", "-Tplain"], input=draw(loads(NESTED), "dot", depth=depth), capture_output=True, check=True
    )
    assert done.stderr == b""
    assert done.stdout.startswith(b"graph")


@pytest.mark.parametrize("command", [["draw", "resnet152", "-o"], ["show", "resnet152", "--html"]])
def test_drawing_resnet152_is_little_work(command: list[str], tmp_path: Path) -> None:
    """Imports included: a count of calls, since processor time differs between machines."""
    assert count_calls(*command, str(tmp_path / "resnet152.svg")) < 600_000


LIGHT_BLOCKS = """
name: light
input: [4, 8, 8]
blocks:
  norms: {branch: {n1: norm, a1: act}}
  gate: {combine: multiply, branch: {a1: {op: sigmoid}}}
  forks: {branch: {f: {combine: add, branches: [none, {a1: act}]}}}
  nothing: {branch: {x: none}}
stages:
  layer1: {block: norms, depth: 1}
  layer2: {block: gate, depth: 1}
  layer3: {block: forks, depth: 1}
  layer4: {block: nothing, depth: 1}
"""


@pytest.mark.parametrize("file_format", ["svg", "mmd", "dot"])
def test_a_block_without_a_convolution_is_summarized_by_what_it_has(file_format: Format) -> None:
    text = draw(loads(LIGHT_BLOCKS), file_format, depth=2).decode()
    assert all(label in text for label in ("batch norm · relu", "gate", "relu", "identity"))
    assert "batch norm" not in draw(load("resnet18"), file_format, depth=2).decode().partition("layer1")[2]


def test_a_page_of_blocks_without_convolutions_is_drawn() -> None:
    assert "batch norm · relu" in render_page(loads(LIGHT_BLOCKS))
