"""The pictures in the documentation are up to date with what is drawn now."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from resnet_spec import load
from resnet_spec.views.drawing.render import draw
from shared.command_line import run_cli
from shared.paths import ROOT


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "resnext50_32x4d", "seresnet50"])
def test_pictures_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / "images" / f"{name}.svg").read_bytes() == draw(load(name), "svg"), (
        "run python docs/pictures.py to draw them again"
    )


def test_the_first_picture_in_the_readme_is_drawn_by_the_command_beside_it(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    picture = re.search(r"!\[[^\]]*\]\((docs/images/[^)]*)\)", readme)
    command = re.search(r"`resnet-spec (draw [^`]*)`", readme)
    assert picture and command
    *arguments, written = shlex.split(command[1])
    assert written == picture[1]
    done = run_cli(*arguments, tmp_path / "drawn.svg")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "drawn.svg").read_bytes() == (ROOT / written).read_bytes()


def test_every_picture_in_the_documentation_exists() -> None:
    pages = [page for page in (ROOT / "docs").rglob("*.md") if "node_modules" not in page.parts]
    for page in (ROOT / "README.md", *pages):
        for link in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
