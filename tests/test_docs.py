"""Every block of code in the site's pages does what it says, in the order of its page; and the reference leaves nothing out."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from resnet_spec import SpecError, load
from resnet_spec.commands.main import cli
from resnet_spec.ops import OPS
from shared.frameworks import required
from shared.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md"))
FENCE = re.compile(r'^([ ]*)```(\w*)(?: title="([^"]+)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)

sys.path.insert(0, str(DOCS))
import generated  # noqa: E402  # the hook that MkDocs runs


class Code(NamedTuple):
    language: str
    title: str
    text: str


def code(page: Path) -> Iterator[Code]:
    for indent, language, title, text in FENCE.findall(page.read_text(encoding="utf-8")):
        yield Code(language, title, textwrap.dedent(text) if indent else text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_code_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for name in ("torch", "paddle", "flax", "onnx"):
        if re.search(
            rf"""backend="{name}"|--backend {name}\b|resnet_spec_{name}\b.* import|^import {name}""", text, re.M
        ):
            required(name)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "docs"}
    for block in code(page):
        match block.language:
            case "python":
                exec(compile(block.text, str(page), "exec", dont_inherit=True), namespace)
            case "yaml":
                _yaml(block, tmp_path)
            case "toml":
                tomllib.loads(block.text)
            case "console":
                _shell(block.text)
            case language:
                assert language == "text", f"a block of {language or 'nothing'} in {page}: it is never run"


def _yaml(block: Code, folder: Path) -> None:
    path = folder / (block.title or "block.yaml")
    path.write_text(block.text, encoding="utf-8")
    if path.stem == "wrong":
        with pytest.raises(SpecError):
            load(path)
    elif "name" in yaml.safe_load(block.text):
        load(path)


def _shell(text: str) -> None:
    """Each line after a $ is a command; other lines are in what it prints."""
    printed = ""
    for line in text.splitlines():
        if line.startswith("$ "):
            program, *arguments = shlex.split(line[2:])
            assert program == "resnet-spec"
            done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
            assert done.exit_code == (2 if "wrong.yaml" in arguments else 0), done.output
            printed = done.output
        else:
            assert line in printed


def test_every_page_is_in_the_sites_contents() -> None:
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize("title", generated.KEYS)
def test_every_key_is_explained(title: str) -> None:
    assert all(key.says.endswith(".") for key in generated.KEYS[title].keys.values())


def test_every_operation_has_a_formula() -> None:
    assert list(generated.meanings()) == sorted(OPS)


@pytest.mark.parametrize("part", generated.PARTS)
def test_what_is_generated_holds_no_hole(part: str) -> None:
    made = generated.PARTS[part]()
    assert "None" not in made
    assert not re.search(r"\|\s*\|\s*$", made, re.MULTILINE)
