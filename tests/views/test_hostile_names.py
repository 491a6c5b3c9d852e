"""Names that hold line ends and the syntax of an output: each view shows them as one line of text, and obeys nothing.

A spec can't have such names; a network that was made in Python, and the name of a file, can.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resnet_spec import Network, loads
from resnet_spec.diagnostics.formats import as_github
from resnet_spec.diagnostics.problems import Problem, Source, Span, render_problem
from resnet_spec.views.drawing.render import draw
from resnet_spec.views.notebook import render_html, render_text
from resnet_spec.views.page.page import render_page
from resnet_spec.views.table import DEFAULT_COLUMNS, build_table
from resnet_spec.views.table_formats import render_latex, render_markdown
from shared.command_line import run_here

SPEC = "{name: %s, input: [3, 8, 8], stem: {conv1: {op: conv, out: 4, kernel: 3}}}"
HOSTILE = (
    'x\n  click n1 href "javascript:alert(5)"\r\n%%{init: {"theme": "dark"}}%%\n::error file=a::b\x1b[2J\x00\u2028'
    "\n\\input{/etc/passwd} <img src=x onerror=alert(6)> $\\frac$ | [a](javascript:b) `c` *d* _e_"
)


@pytest.fixture
def network() -> Network:
    return replace(loads(SPEC % "x"), name=HOSTILE)


def count_lines(text: str) -> int:
    return len(text.splitlines())  # also at U+2028 and other line ends


@pytest.mark.parametrize("file_format", ["mmd", "dot", "svg"])
def test_a_drawing_has_no_line_more(network: Network, file_format: str) -> None:
    text = draw(network, file_format).decode()  # type: ignore[arg-type]
    plain = draw(replace(network, name="x"), file_format).decode()  # type: ignore[arg-type]
    assert count_lines(text) == count_lines(plain)
    assert "\x1b" not in text
    if file_format == "mmd":
        assert text.count("%%{init") == plain.count("%%{init") == 1
    if file_format == "svg":
        ElementTree.fromstring(text)


@pytest.mark.parametrize("file_format", ["png", "pdf"])
def test_a_picture_can_be_drawn(network: Network, file_format: str) -> None:
    assert draw(network, file_format)  # type: ignore[arg-type]


def test_a_table_in_latex_keeps_the_name_in_its_comment(network: Network) -> None:
    text = render_latex(build_table(network), DEFAULT_COLUMNS)
    assert count_lines(text) == count_lines(render_latex(build_table(replace(network, name="x")), DEFAULT_COLUMNS))
    assert [line for line in text.splitlines() if r"\input" in line and not line.startswith("%")] == []


def test_a_table_in_markdown_keeps_the_name_in_its_title(network: Network) -> None:
    text = render_markdown(build_table(network), DEFAULT_COLUMNS)
    title, *rest = text.splitlines()
    assert rest == render_markdown(build_table(replace(network, name="x")), DEFAULT_COLUMNS).splitlines()[1:]
    assert title.startswith("**x")
    assert r"&lt;img" in title
    assert r"\[a](javascript:b) \`c\` \*d\* _e_" in title


def test_a_notebook_and_a_page_escape_the_name(network: Network) -> None:
    assert count_lines(render_text(network)) == 1
    for text in (render_html(network), render_page(network)):
        assert "<img" not in text
        assert "\x1b" not in text
        assert "\n::error" not in text


@pytest.mark.parametrize("command", [("show",), ("show", "--format", "markdown"), ("compare",), ("diff",), ("check",)])
def test_the_commands_print_markup_and_names_of_files_as_they_are(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "a[b]\n::error::c.yaml"
    file.write_text(SPEC % '"[/red] :smile: [link=x]"')
    specs = [file.name, file.name] if command == ("diff",) else [file.name]
    done = run_here(*command, *specs, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not [line for line in done.stdout.splitlines() if line.startswith("::error")]
    if command == ("show",):
        assert "[/red] :smile: [link=x], for" in done.stdout


def test_a_problem_is_printed_in_its_own_lines() -> None:
    source = Source("a\n::error::b.yaml", "name: x")
    problem = Problem("RS212", "a\n::error::c", Span(source, 1, 1, 5), "d\n::error::e")
    assert not [line for line in render_problem(problem).splitlines() if line.startswith("::")]
    assert count_lines(as_github([problem])) == 1
