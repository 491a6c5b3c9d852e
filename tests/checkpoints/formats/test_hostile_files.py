"""Files that attack their reader are refused, or read, within a few seconds and within twice their size in memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shared.frameworks import required
from shared.hostile_checkpoints import ATTACKS, attack
from shared.limited_reader import LimitedReader

READER = LimitedReader()
FILES, SWEPT_FILES = 3, 2000
"""How many times each attack is tried, and how many files of each format with ``--sweep``."""


def count_files(kind: str, sweep: bool) -> int:
    return SWEPT_FILES if sweep else FILES * len(ATTACKS[kind])


@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("kind", ATTACKS)
def test_hostile_files_are_refused_or_read_within_limits(kind: str, sweep: bool, tmp_path: Path) -> None:
    if kind == "orbax":
        required("flax")
    outcomes = list(attack(kind, range(count_files(kind, sweep)), tmp_path, READER))
    assert 0 < sum(bool(outcome.error) for _, outcome in outcomes) < len(outcomes)  # some of them are valid


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if kind != "orbax"])
def test_a_number_gives_one_file(kind: str, tmp_path: Path) -> None:
    from shared.hostile_checkpoints import write_hostile

    for number in range(len(ATTACKS[kind])):
        contents = []
        for _ in range(2):
            write_hostile(kind, number, tmp_path / "w")
            contents.append((tmp_path / "w").read_bytes())
        assert contents[0] == contents[1]


def test_reader_that_is_ended_by_a_file_fails_the_test_and_is_started_again(tmp_path: Path) -> None:
    """As a file does that takes too much processor time: the system ends the child by a signal."""
    reader = LimitedReader()
    next(attack("npz", range(1), tmp_path, reader))
    assert reader.child is not None
    first = reader.child
    os.kill(first.pid, signal.SIGSTOP)
    os.kill(first.pid, signal.SIGXCPU)
    os.kill(first.pid, signal.SIGCONT)
    first.wait()
    assert first.returncode == -signal.SIGXCPU
    next(attack("npz", range(1), tmp_path, reader))
    assert reader.child is not first
    reader.close()
