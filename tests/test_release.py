"""What is released: one wheel from the same commit always, names that every system can hold, commands wherever Python is."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from shared.paths import ROOT

RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)


def built(folder: Path) -> dict[str, Path]:
    code = """
import sys
from hatchling import build
print(build.build_wheel(sys.argv[1]), build.build_sdist(sys.argv[1]))
"""
    folder.mkdir()
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    wheel, sdist = done.stdout.split()[-2:]
    return {"wheel": folder / wheel, "sdist": folder / sdist}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    folder = tmp_path_factory.mktemp("release")
    return built(folder / "first"), built(folder / "second")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_two_builds_are_the_same_bytes(twice: tuple[dict[str, Path], dict[str, Path]], kind: str) -> None:
    first, second = (hashlib.sha256(found[kind].read_bytes()).hexdigest() for found in twice)
    assert first == second


def test_the_wheel_holds_what_is_needed_and_no_more(twice: tuple[dict[str, Path], dict[str, Path]]) -> None:
    names = zipfile.ZipFile(twice[0]["wheel"]).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    backends = {f"resnet_spec_{name}" for name in ("numpy", "torch", "paddle", "flax", "onnx")}
    assert tops == {"resnet_spec", *backends}
    assert all(f"{package}/py.typed" in names for package in tops)
    assert "resnet_spec/specs/resnet50.yaml" in names
    assert "resnet_spec/specs/blocks/bottleneck.yaml" in names


def test_every_name_can_be_a_file_on_windows_and_macos(twice: tuple[dict[str, Path], dict[str, Path]]) -> None:
    with tarfile.open(twice[0]["sdist"]) as sdist:
        names = [member.name for member in sdist.getmembers()]
    parts = {part for name in names for part in name.split("/")}
    assert not [part for part in parts if RESERVED.match(part) or re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part)]
    assert max(map(len, names)) < 150  # Windows refuses paths of 260
    assert not [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resnet_spec", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_tab_completes_commands_and_networks() -> None:
    code = 'import sys; sys.argv = ["resnet-spec"]; from resnet_spec.commands.main import main; main()'
    for words, position, wanted in [
        ("resnet-spec sho", "1", "plain,show"),
        ("resnet-spec show resnet18_b", "2", "plain,resnet18_biased_shortcut"),
        ("resnet-spec parity resnet18 resnet18_b", "3", "plain,resnet18_biased_shortcut"),
        ("resnet-spec export resnet18 --op", "3", "plain,--opset"),
    ]:
        asked = {"_RESNET_SPEC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": position}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **asked}
        )
        assert wanted in done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    command = [sys.executable, "-m", "resnet_spec", "completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_RESNET_SPEC_COMPLETE" in done.stdout
    assert "resnet-spec" in done.stdout
