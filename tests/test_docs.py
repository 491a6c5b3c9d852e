"""The documentation: code blocks run, page by page, links resolve, lines fit, and the reference is complete."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from code import InteractiveConsole
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from resnet_spec import SpecError, load
from resnet_spec.commands.main import main
from resnet_spec.ops import OPS
from shared.frameworks import required
from shared.notebooks import run_notebook
from shared.paths import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
MAX_COLUMNS = 120

LINK = re.compile(r"\]\(([^)\s]+)\)")
LINK_LINE = re.compile(r"^[\s>*-]*!?\[[^\]]*\]\([^)]*\)[.,;]?$")
UNTESTED = ("text", "sh")
"""Languages of blocks that are not run: output, and commands that install, measure, or need several machines."""

sys.path.insert(0, str(DOCS))
import generated  # noqa: E402  # the hook that MkDocs runs
from notebooks import EXIT_STATUS, FENCE, notebook_path, write_notebook  # noqa: E402

PAGES = generated.list_pages()
NOTEBOOK_PAGES = generated.list_notebook_pages()
TUTORIALS = [page for page in PAGES if page.parent.name == "tutorials"]
MARKDOWN = [README, *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")), *PAGES]


class CodeBlock(NamedTuple):
    """A fenced block of a page. A title names the file that the block is written to."""

    language: str
    title: str
    text: str


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path) -> Iterator[CodeBlock]:
    """Yield the fenced blocks of a page, in order, without generated ones, which the tests of their sources run."""
    written = generated.GENERATED.sub("", page.read_text(encoding="utf-8"))
    for indent, language, title, text in FENCE.findall(written):
        yield CodeBlock(language, title, textwrap.dedent(text) if indent else text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder to follow a page in. Python imports from it, as in a session that is started there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", [README, *PAGES], ids=page_id)
@pytest.mark.share(4)
def test_code_blocks_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for name in ("torch", "paddle", "flax", "onnx"):
        if re.search(
            rf"""backend="{name}"|--backend {name}\b|resnet_spec_{name}\b.* import|^import {name}""", text, re.M
        ):
            required(name)
    monkeypatch.setenv("RESNET_SPEC_CACHE", str(folder / "cache"))
    monkeypatch.setenv("RESNET_SPEC_OFFLINE", "1")
    monkeypatch.delenv("RESNET_SPEC_LOCK", raising=False)
    namespace: dict[str, Any] = {"__name__": "docs"}
    for block in code_blocks(page):
        match block.language:
            case "python":
                exec(compile(block.text, str(page), "exec", dont_inherit=True), namespace)
            case "yaml":
                check_yaml(block, folder)
            case "toml":
                tomllib.loads(block.text)
            case "console":
                check_console(block.text)
            case language:
                assert language in UNTESTED, f"a block in {language or 'no language'} in {page} is never run"


def check_yaml(block: CodeBlock, folder: Path) -> None:
    """Write a block to its file, and load it if it is a spec. A file named wrong.yaml must have problems."""
    path = folder / (block.title or "block.yaml")
    path.write_text(block.text, encoding="utf-8")
    if path.stem == "wrong":
        with pytest.raises(SpecError):
            load(path)
    elif "name" in yaml.safe_load(block.text):
        load(path)


def check_console(text: str) -> None:
    """Run each line after a ``$``, and find each other line in what the command prints.

    ``...`` in such a line stands for any text. If a command does not exit with 0, a comment gives its status, as in
    ``# exit status 2``.
    """
    printed = ""
    for line in text.splitlines():
        if line.startswith("$ "):
            status = EXIT_STATUS.search(line)
            program, *arguments = shlex.split(EXIT_STATUS.sub("", line[2:]))
            code, printed = RUN[program](arguments)
            assert code == (int(status[1]) if status else 0), printed
        else:
            pattern = ".*".join(map(re.escape, line.rstrip().split("...")))
            assert re.search(rf"^{pattern}\s*$", printed, re.MULTILINE), f"{line!r} is not in:\n{printed}"


def run_main(arguments: list[str]) -> tuple[object, str]:
    """Run the command line in this process, and return its exit status and all that it prints."""
    output = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        pytest.raises(SystemExit) as stop,
    ):
        patch.setattr(sys, "argv", ["resnet-spec", *arguments])
        main()
    return stop.value.code, output.getvalue()


def run_pytest(arguments: list[str]) -> tuple[object, str]:
    """Run pytest in a process of its own, without what this run of it sets, and return its exit status and output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)
    return run.returncode, run.stdout + run.stderr


RUN = {"resnet-spec": run_main, "pytest": run_pytest}
"""By its name, how a program in a block of commands is run."""


@pytest.mark.parametrize("page", TUTORIALS, ids=page_id)
def test_python_can_be_pasted_into_a_session(page: Path) -> None:
    """An interactive session ends a compound statement at a blank line, and needs one before what follows it."""
    for block in code_blocks(page):
        if block.language == "python" and not block.title:
            console, errors = InteractiveConsole(), io.StringIO()
            console.runcode = lambda code: None  # type: ignore[method-assign]
            with contextlib.redirect_stderr(errors):
                for line in [*block.text.splitlines(), ""]:
                    console.push(line)
            assert not errors.getvalue()


@pytest.mark.parametrize("page", MARKDOWN, ids=page_id)
def test_links_lead_to_files(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK.findall(prose) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", MARKDOWN, ids=page_id)
def test_lines_fit(page: Path) -> None:
    """Table rows and lines that are one link can't be wrapped; code blocks show output as it is printed."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    breakable = [line for line in prose.splitlines() if not line.startswith("|") and not LINK_LINE.match(line)]
    assert [line for line in breakable if len(line) > MAX_COLUMNS] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_home_page_links_to_every_page() -> None:
    home = DOCS / "index.md"
    linked = {target for target in LINK.findall(home.read_text(encoding="utf-8")) if "://" not in target}
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} - {"index.md"} <= linked


@pytest.mark.parametrize("page", [README, *PAGES], ids=page_id)
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == generated.fill_page(text), "run: python docs/generated.py"


@pytest.mark.parametrize("page", NOTEBOOK_PAGES, ids=page_id)
def test_notebooks_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert notebook_path(page).read_text(encoding="utf-8") == write_notebook(text), "run: python docs/generated.py"


@pytest.mark.parametrize("page", NOTEBOOK_PAGES, ids=page_id)
def test_notebooks_do_what_their_pages_do(page: Path) -> None:
    """Every file, command and Python block of a page is a cell, in order. Other blocks are read, and stay in prose."""
    cells = json.loads(notebook_path(page).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    blocks = [block for block in code_blocks(page) if block.language in ("python", "console") or block.title]
    assert len(code) == len(blocks)
    for cell, block in zip(code, blocks, strict=True):
        match block.language:
            case "python":
                assert cell == block.text.rstrip("\n")
            case "yaml":
                assert cell == f"%%writefile {block.title}\n{block.text}".rstrip("\n")
            case _:
                assert re.findall(r"^!(.*)$", cell, re.M) == re.findall(r"^\$ (.*?)(?:  # .*)?$", block.text, re.M)


@pytest.mark.parametrize("page", NOTEBOOK_PAGES, ids=page_id)
def test_notebooks_start(page: Path, folder: Path) -> None:
    """Files and commands work as cells. The test of the page runs everything, and the sweep all cells."""
    run_notebook(notebook_path(page), folder, until="resnet-spec diff")


@pytest.mark.sweep
@pytest.mark.parametrize("page", NOTEBOOK_PAGES, ids=page_id)
def test_notebooks_run(page: Path, folder: Path) -> None:
    for name in ("torch", "paddle", "flax"):
        required(name)
    run_notebook(notebook_path(page), folder)


def test_every_generated_part_is_in_a_page() -> None:
    pages = [README, *PAGES]
    marks = [name for page in pages for name, _ in generated.GENERATED.findall(page.read_text(encoding="utf-8"))]
    assert sorted(marks) == sorted(generated.PARTS)


@pytest.mark.parametrize("title", generated.MAPPINGS)
def test_every_key_has_a_sentence(title: str) -> None:
    assert all(key.description.endswith(".") for key in generated.MAPPINGS[title].keys.values())


def test_every_operation_has_a_formula() -> None:
    assert list(generated.operation_meanings()) == sorted(OPS)


@pytest.mark.parametrize("part", generated.PARTS)
def test_generated_tables_have_no_empty_last_cell(part: str) -> None:
    text = generated.PARTS[part]()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert not [line for line in tables if "None" in line or re.search(r"\|\s*\|\s*$", line)]
    assert tables or part in ("errors", "counts")
