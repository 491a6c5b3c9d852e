"""Files are written completely or not at all, whoever else writes them, and errors name the file that was asked for."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.checkpoints.formats import atomic
from resnet_spec.commands.main import main
from resnet_spec.parity import sweep
from shared.local_runner import LocalWorker

WRITERS: list[Callable[[Path], AbstractContextManager[Path]]] = [atomic.replace_file, atomic.create_folder]


def test_two_writers_of_one_target_do_not_share_a_file(tmp_path: Path) -> None:
    """As threads of one process, and as processes with equal numbers in two containers: nothing tells them apart."""
    target = tmp_path / "w"
    with atomic.replace_file(target) as first, atomic.replace_file(target) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert target.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_two_writers_of_one_folder_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"not empty|exists") as error,
        atomic.create_folder(tmp_path / "w") as first,
        atomic.create_folder(tmp_path / "w") as second,
    ):
        (first / "a").write_bytes(b"first")
        (second / "a").write_bytes(b"second")
    assert error.value.filename == str(tmp_path / "w")
    assert (tmp_path / "w" / "a").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("write", WRITERS)
def test_temporary_path_is_never_one_that_exists(
    write: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that somebody put there would lead the writer to another file."""
    monkeypatch.setattr(os, "urandom", lambda count: b"\1" * count)
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / f"w.{'01' * 8}.part").symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError), write(tmp_path / "w") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "other").read_bytes() == b"other"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_replaced_file_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"old")
    (tmp_path / "w").chmod(mode)
    with atomic.replace_file(tmp_path / "w") as part:
        assert part.stat().st_mode & 0o777 == mode  # nobody else reads it while it is written
        part.write_bytes(b"new")
    assert (tmp_path / "w").stat().st_mode & 0o777 == mode


def test_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    atomic.write_file(tmp_path / "w", b"")
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_folder_that_is_filled_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir(mode=0o700)
    with atomic.create_folder(tmp_path / "w") as part:
        (part / "a").write_bytes(b"")
    assert (tmp_path / "w").stat().st_mode & 0o777 == 0o700


def test_file_with_the_longest_name_is_written(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / ("w" * 255), "text")
    atomic.write_file(tmp_path / ("é" * 127), "text")
    assert {len(path.name) for path in tmp_path.iterdir()} == {255, 127}


@pytest.mark.parametrize("write", WRITERS)
def test_full_disk_is_reported_with_the_name_of_the_target(
    write: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    with pytest.raises(OSError) as error, write(tmp_path / "w"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "w"))
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, atomic.replace_file(tmp_path / "w"):
        (tmp_path / "source").read_bytes()
    assert error.value.filename == str(tmp_path / "source")


@pytest.mark.parametrize("write", WRITERS)
def test_missing_folder_is_reported_with_the_name_of_the_target(
    write: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as error, write(tmp_path / "missing" / "w"):
        raise AssertionError("written to a folder that does not exist")
    assert error.value.filename == str(tmp_path / "missing" / "w")


def make_pipe(path: Path) -> None:
    """Make a pipe with a reader, or a writer that does not refuse it would wait for one."""
    os.mkfifo(path)
    os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("make", [make_pipe, Path.mkdir])
def test_pipe_or_folder_as_target_is_refused_before_anything_is_written(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(tmp_path / "w")
    with pytest.raises(OSError, match="not a file that can be replaced") as error, atomic.replace_file(tmp_path / "w"):
        raise AssertionError("written")
    assert error.value.filename == str(tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("make", [make_pipe, Path.mkdir])
def test_finished_file_does_not_replace_a_pipe_or_a_folder(make: Callable[[Path], Any], tmp_path: Path) -> None:
    finished, target = tmp_path / "finished", tmp_path / "w"
    finished.write_text("")
    make(target)
    with pytest.raises(OSError, match="not a file that can be replaced") as error:
        atomic.move_file(finished, target)
    assert error.value.filename == str(target)
    assert finished.exists() and not target.is_file()


PARITY = "parity cifar/resnet20 --narrow --backend torch --level forward --dtype float64 --size 16x16"
COMMANDS = [
    ("draw resnet18 -o", "r.svg"),
    ("compare resnet18 -o", "r.svg"),
    ("show resnet18 --html", "r.html"),
    (f"{PARITY} --json", "r.json"),
    (f"{PARITY} --report", "r.html"),
    (f"{PARITY} --junit", "r.xml"),
]
"""The commands that write a file as a whole, and the name of a file."""


@pytest.fixture
def local_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "WorkerProcess", LocalWorker)


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Run the command line in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["resnet-spec", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.usefixtures("local_workers")
@pytest.mark.parametrize(("command", "name"), COMMANDS)
@pytest.mark.parametrize("make", [make_pipe, Path.mkdir])
def test_commands_refuse_a_pipe_or_a_folder_as_target(
    command: str,
    name: str,
    make: Callable[[Path], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / name)
    assert run_here(monkeypatch, *command.split(), str(tmp_path / name)) == 2
    printed = capsys.readouterr().err
    assert (
        f"not a file that can be replaced: {tmp_path / name}" in printed or f"'{tmp_path / name}' is a dir" in printed
    )


@pytest.mark.usefixtures("local_workers")
@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_commands_keep_the_old_file_if_they_fail_and_its_permissions_if_not(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    path.chmod(0o600)

    def fill_disk(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_disk)
        assert run_here(patch, *command.split(), str(path)) == 2
    assert capsys.readouterr().err == f"error: no space left on device: {path}\n"
    assert path.read_bytes() == b"old"
    assert run_here(monkeypatch, *command.split(), str(path)) == 0
    assert path.read_bytes() != b"old"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [name]
