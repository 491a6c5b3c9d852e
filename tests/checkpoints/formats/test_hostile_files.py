"""Files that attack their reader are refused, or read, within a few seconds and within twice their size in memory."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.file_corruption import PickledResult
from shared.frameworks import required
from shared.hostile_checkpoints import ATTACKS, attack, void, write_hostile
from shared.limited_reader import LimitedReader, check_refusal

READER = LimitedReader()
FILES, SWEPT_FILES = 3, 2000
"""How many times each attack is tried, and how many files of each format with ``--sweep``."""


SINGLE_FILES = {"safetensors", "torch", "torch of before 1.6", "paddle", "npz", "msgpack", "onnx"}
NEEDS = {"orbax": "flax", "distributed": "torch"}
"""The frameworks that write valid files of a kind, to corrupt them."""


def count_files(kind: str, sweep: bool) -> int:
    return SWEPT_FILES if sweep else FILES * len(ATTACKS[kind])


@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.share(2)
def test_hostile_files_are_refused_or_read_within_limits(kind: str, sweep: bool, tmp_path: Path) -> None:
    if kind in NEEDS:
        required(NEEDS[kind])
    if kind == "keras":
        pytest.importorskip("h5py")
    outcomes = list(attack(kind, range(count_files(kind, sweep)), tmp_path, READER))
    assert 0 < sum(bool(outcome.error) for _, outcome in outcomes) < len(outcomes)  # some of them are valid


def write_doubling(path: Path) -> None:
    """Mappings that hold the one before them twice: 268 million names in a kilobyte."""
    mapping: dict[str, Any] = {"w": np.ones(1, np.float32)}
    for _ in range(28):
        mapping = {"a": mapping, "b": mapping}
    path.write_bytes(pickle.dumps(mapping, 4))


def write_long_names(path: Path) -> None:
    """One array under 60,000 names of a thousand letters, which are in the file once."""
    array, key = np.ones(1, np.float32), "k" * 1000
    path.write_bytes(pickle.dumps({number: {key: array} for number in range(60_000)}, 4))


def write_zeros(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, w=np.zeros(2**25, np.float32))


def write_shape(shape: Any) -> Callable[[Path], None]:
    """Return a function that writes an array of this shape, which it does not have."""
    reduced: Any = np.zeros(2, np.float32).__reduce__()
    function, arguments, (version, _, *rest) = reduced
    array = PickledResult(function, arguments, (version, shape, *rest))
    return lambda path: void(path.write_bytes(pickle.dumps({"w": array}, 4)))


def nest_shared_tuples(levels: int) -> Any:
    """Return a tuple that holds the one before it twice, and so on: written out, two to the number of levels."""
    shape: Any = ()
    for _ in range(levels):
        shape = (shape, shape)
    return shape


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_doubling, "too much for the file's size"),
        (write_long_names, "too much for the file's size"),
        (write_zeros, "'w.npy' takes 134,217,856 bytes decompressed, and at most 67,108,864 are read"),
        (write_shape((1,) * 33), "expected a shape for 'w', found (1, 1, 1, 1, 1, 1, 1, 1, ...)"),
        (write_shape(nest_shared_tuples(60)), "expected a shape for 'w', found (((...), (...)), ((...), (...)))"),
        (
            write_shape((2**8000,) * 9),
            "expected a shape for 'w', found (<an integer of 8,001 bits>, <an integer of 8,001 bits>",
        ),
    ],
)
@pytest.mark.share(2)
def test_small_file_that_stands_for_much_is_refused_with_the_reason(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "w")
    assert (tmp_path / "w").stat().st_size < 2**20
    outcome = READER.read(tmp_path / "w")
    check_refusal(tmp_path / "w", outcome)
    assert message in outcome.error


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if kind in SINGLE_FILES])
def test_a_number_gives_one_file(kind: str, tmp_path: Path) -> None:
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
