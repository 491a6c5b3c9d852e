"""The released distributions: reproducible, portable in their file names, and runnable wherever Python is."""

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

RESERVED_ON_WINDOWS = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)


def build_distributions(folder: Path) -> dict[str, Path]:
    """Build the wheel and the source distribution into a folder."""
    code = """
import sys
from hatchling import build
print(build.build_wheel(sys.argv[1]), build.build_sdist(sys.argv[1]))
"""
    folder.mkdir()
    command = [sys.executable, "-c", code, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    wheel, sdist = run.stdout.split()[-2:]
    return {"wheel": folder / wheel, "sdist": folder / sdist}


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    folder = tmp_path_factory.mktemp("release")
    return build_distributions(folder / "first"), build_distributions(folder / "second")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_two_builds_are_byte_identical(two_builds: tuple[dict[str, Path], dict[str, Path]], kind: str) -> None:
    first, second = (hashlib.sha256(build[kind].read_bytes()).hexdigest() for build in two_builds)
    assert first == second


def test_wheel_holds_exactly_the_packages(two_builds: tuple[dict[str, Path], dict[str, Path]]) -> None:
    names = zipfile.ZipFile(two_builds[0]["wheel"]).namelist()
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    backends = {f"resnet_spec_{name}" for name in ("numpy", "torch", "paddle", "flax", "onnx")}
    assert packages == {"resnet_spec", *backends}
    assert all(f"{package}/py.typed" in names for package in packages)
    assert "resnet_spec/specs/resnet50.yaml" in names
    assert "resnet_spec/specs/blocks/bottleneck.yaml" in names
    assert "resnet_spec/specs/weights/timm.json" in names
    assert two_builds[0]["wheel"].stat().st_size < 2_000_000


def test_every_file_name_is_valid_on_windows_and_macos(
    two_builds: tuple[dict[str, Path], dict[str, Path]],
) -> None:
    with tarfile.open(two_builds[0]["sdist"]) as sdist:
        names = [member.name for member in sdist.getmembers()]
    parts = {part for name in names for part in name.split("/")}
    invalid = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ]$')
    assert not [part for part in parts if RESERVED_ON_WINDOWS.match(part) or invalid.search(part)]
    assert max(map(len, names)) < 150  # Windows refuses paths of 260 characters
    assert not [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]


def test_package_runs_as_a_module(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "resnet_spec", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert re.search(r"\d+\.\d+\.\d+", run.stdout)


def test_tab_completes_commands_networks_and_options() -> None:
    code = 'import sys; sys.argv = ["resnet-spec"]; from resnet_spec.commands.main import main; main()'
    for words, position, expected in [
        ("resnet-spec sho", "1", "plain,show"),
        ("resnet-spec show resnet18_b", "2", "plain,resnet18_biased_shortcut"),
        ("resnet-spec parity resnet18 resnet18_b", "3", "plain,resnet18_biased_shortcut"),
        ("resnet-spec export resnet18 --op", "3", "plain,--opset"),
    ]:
        completion = {"_RESNET_SPEC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": position}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **completion}
        )
        assert expected in run.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    command = [sys.executable, "-m", "resnet_spec", "completion", shell]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_RESNET_SPEC_COMPLETE" in run.stdout
    assert "resnet-spec" in run.stdout
