"""The display of networks in notebooks, and the example notebook, which is run from first cell to last."""

from __future__ import annotations

import re
from typing import Any

import pytest

from resnet_spec import load, loads
from shared.notebooks import run_notebook
from shared.paths import EXAMPLES

EXAMPLE = EXAMPLES / "look_at_networks.ipynb"


def test_a_network_has_a_text_an_html_and_an_svg_representation() -> None:
    bundle = load("resnet18")._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html", "image/svg+xml"]
    assert bundle["text/plain"] == "resnet18: 11.7 M parameters, 1.81 G MACs, 3x224x224 to 1000"
    assert bundle["image/svg+xml"].startswith("<svg ")
    assert load("resnet18")._repr_html_() == bundle["text/html"]


def test_the_html_contains_the_drawing_and_the_table() -> None:
    html = load("resnet18")._repr_html_()
    assert html.count("<svg ") == 1
    assert html.count("<tr>") == 1 + len(list(load("resnet18").nodes())) + 1  # the head, every part, the total
    assert "<td>\u2003\u2003layer1.0.conv1</td><td>conv</td><td>64x56x56</td>" in html
    assert "FLOPs = 2 x MACs" in html


def test_names_in_a_spec_are_escaped() -> None:
    name = "<script>alert(1)</script>"
    html = loads(f"{{name: '{name}', input: [3, 8, 8], stem: {{c: {{op: conv, out: 4, kernel: 3}}}}}}")._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """Return the outputs of each code cell of the example."""
    return run_notebook(EXAMPLE, tmp_path_factory.mktemp("notebook"))


def test_the_example_runs_without_errors(outputs: list[list[Any]]) -> None:
    assert all(cell and cell[-1].output_type != "error" for cell in outputs)


def test_the_example_shows_networks(outputs: list[list[Any]]) -> None:
    for number, name in ((0, "resnet18"), (4, "mine")):
        data = outputs[number][-1].data
        assert data["text/plain"].startswith(f"{name}: ")
        assert re.search(rf">{name}</text>", data["text/html"])
