"""Which files a spec may extend: those below its own folder, bundled ones, and those that the user allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec import SpecError, load, loads
from resnet_spec.library.load import EXTENDS_FROM
from shared.command_line import run_here

BASE = "name: base\ninput: [3, 8, 8]\nstem: {a: act}\n"
SECRET = "root:x:0:0:secret\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for specs, beside one with a base and a secret."""
    inner, outer = tmp_path / "mine", tmp_path / "other"
    inner.mkdir()
    outer.mkdir()
    (outer / "base.yaml").write_text(BASE)
    (outer / "secret").write_text(SECRET)
    (outer / "secret.yaml").write_text(SECRET)
    (inner / "deep").mkdir()
    (inner / "deep" / "base.yaml").write_text(BASE)
    (inner / "notes.txt").write_text(SECRET)
    (inner / "link.yaml").symlink_to(outer / "secret.yaml")
    (inner / "folder").symlink_to(outer)
    monkeypatch.chdir(inner)
    return inner


def error_of(extends: str) -> str:
    Path("my.yaml").write_text(f"name: my\nextends: {extends}\n")
    with pytest.raises(SpecError) as error:
        load("my.yaml")
    (problem,) = error.value.problems
    assert problem.code == "RS209"
    assert (problem.span.line, problem.span.column) == (2, 10)
    return str(error.value)


@pytest.mark.parametrize(
    "path",
    ["../other/base", "../other/base.yaml", "../other/secret", "../other/missing", "link", "folder/base"],
)
def test_a_file_outside_of_the_folder_of_the_spec_is_not_read(folder: Path, path: str) -> None:
    message = error_of(path)
    assert f"{path!r} is outside of the folder of my.yaml" in message
    assert "RESNET_SPEC_EXTENDS_FROM" in message
    assert "secret:" not in message
    assert "0:0" not in message


@pytest.mark.parametrize("path", ["/etc/passwd", "{outer}/secret", "{outer}/base.yaml"])
def test_an_absolute_path_outside_of_the_folder_is_not_read(folder: Path, path: str) -> None:
    message = error_of(path.format(outer=folder.parent / "other"))
    assert "outside of the folder" in message
    assert "0:0" not in message


def test_only_yaml_files_are_read(folder: Path) -> None:
    assert "no file or bundled network named 'notes.txt'" in error_of("notes.txt")


@pytest.mark.parametrize("path", [".", "..", "./", "deep", "deep/..", '""'])
def test_a_folder_is_not_read(folder: Path, path: str) -> None:
    assert "outside of the folder" in error_of(path) or "no file or bundled network" in error_of(path)


def test_files_below_the_folder_of_the_spec_are_read(folder: Path) -> None:
    Path("my.yaml").write_text("name: my\nextends: deep/base\n")
    assert load("my.yaml").output_shape == (3, 8, 8)
    Path("deep/own.yaml").write_text("name: own\nextends: base.yaml\n")
    assert load("deep/own.yaml").output_shape == (3, 8, 8)


def test_a_base_may_extend_a_file_above_it_in_the_folder_of_the_spec(folder: Path) -> None:
    Path("top.yaml").write_text(BASE)
    Path("deep/middle.yaml").write_text("name: middle\nextends: ../top\n")
    Path("my.yaml").write_text("name: my\nextends: deep/middle\n")
    assert load("my.yaml").output_shape == (3, 8, 8)


def test_a_text_extends_files_below_the_working_directory(folder: Path) -> None:
    assert loads("name: my\nextends: deep/base\n").output_shape == (3, 8, 8)
    with pytest.raises(SpecError, match="is outside of the folder of <text>"):
        loads("name: my\nextends: ../other/base\n")


def test_an_allowed_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXTENDS_FROM, str(folder.parent / "other"))
    Path("my.yaml").write_text("name: my\nextends: ../other/base\n")
    assert load("my.yaml").output_shape == (3, 8, 8)


def test_the_option_of_the_command_line_allows_a_folder(folder: Path) -> None:
    Path("my.yaml").write_text("name: my\nextends: ../other/base\n")
    assert run_here("check", "my.yaml").returncode == 2
    assert run_here("--extends-from", "../other", "check", "my.yaml").returncode == 0
