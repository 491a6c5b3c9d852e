"""Read checkpoints in a child process under limits: a file that hangs or exhausts the reader ends the child alone.

A signal's handler that raises in the reader's own process would do so at any place, also inside pytest.
"""

from __future__ import annotations

import atexit
import faulthandler
import math
import os
import pickle
import resource
import struct
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time
from typing import Any, BinaryIO

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import CheckpointError, UnreadTensor
from resnet_spec.weights.canonical import Array
from shared.machine_speed import scaled

MAX_CPU_SECONDS = 5
"""Processor time that a file of up to a megabyte may take, and what each further megabyte may take."""

MIN_FILE_BYTES = 2**26
"""A smaller file may take as much memory as one of this size: twice as much."""

_SERVE = "from shared.limited_reader import serve; serve()"
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reader made of a file.

    Attributes:
        error: The message of the error that it raised, or "".
        kind: The class of this error.
        arrays: The arrays that were read, if they were asked for.
        count: The number of arrays that were read.
        unread: The number of arrays that are named, but cannot be read.
        seconds: The processor time that it took.
        peak: The most memory that the process has taken since it was started, in bytes: for this file, or an earlier.
    """

    error: str = ""
    kind: str = ""
    arrays: dict[str, Array] = field(default_factory=dict)
    count: int = 0
    unread: int = 0
    seconds: float = 0.0
    peak: int = 0


class LimitedReader:
    """A child process that reads files one after another. It is started again if a file ends it."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def read(self, path: Path, keep: bool = False) -> Outcome:
        """Read all arrays of a file, one at a time, and return them if they are to be kept.

        Raises AssertionError if the file takes too much memory or processor time, or ends the child.
        """
        size = _measure(path)
        seconds = scaled(MAX_CPU_SECONDS) * max(1.0, size / 2**20)
        limit = 2 * max(size, MIN_FILE_BYTES)
        outcome = self.ask(path, seconds, keep)
        if outcome.peak > limit:  # an earlier file may have taken this, so a new process reads it
            self.close()
            outcome = self.ask(path, seconds, keep)
        assert outcome.seconds <= seconds, f"{path} took {outcome.seconds:.1f} s of processor time"
        assert outcome.peak <= limit, f"{path} took {outcome.peak:,} bytes of memory, a file of {size:,}"
        return outcome

    def ask(self, path: Path, seconds: float, keep: bool) -> Outcome:
        """Return what the child makes of a file."""
        if self.child is None or self.child.poll() is not None:
            self.close()
            self.child = _start()
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        _send(self.child.stdin, (str(path), seconds, keep))
        outcome: Outcome | None = _receive(self.child.stdout)
        if outcome is None:
            status = self.child.wait()
            self.close()
            raise AssertionError(
                f"{path} took more than {seconds:.0f} s of processor time, or ended the process (status {status})"
            )
        return outcome

    def close(self) -> None:
        """End the child."""
        if self.child is not None and self.child.stdin is not None and self.child.stdout is not None:
            self.child.stdin.close()
            self.child.stdout.close()
            self.child.wait()
        self.child = None


def check_refusal(path: Path, outcome: Outcome) -> None:
    """Check that a refused file was refused as it should: by an error of one line that names it."""
    assert outcome.kind == "CheckpointError", f"{outcome.kind}: {outcome.error}"
    assert str(path) in outcome.error
    assert outcome.error.isprintable()
    assert len(outcome.error) < 3000 + 2 * len(str(path))
    assert registry.UNEXPECTED not in outcome.error, "a reader failed where it expects no failure"


def _measure(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _start() -> subprocess.Popen[bytes]:
    folder = Path(__file__).parents[1]
    places = [str(folder), str(folder.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-W", "ignore", "-c", _SERVE]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _send(stream: BinaryIO | Any, value: object) -> None:
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> Any:
    """Return the next value in a stream from the other process, or None at its end."""
    head = stream.read(_LENGTH.size)
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0])) if len(head) == _LENGTH.size else None


def serve() -> None:
    """Read the files that the parent names, and end if one takes too much processor time (SIGXCPU)."""
    faulthandler.enable()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start = _peak_resident()
    while (request := _receive(sys.stdin.buffer)) is not None:
        path, seconds, keep = request
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(process_time() + seconds) + 1, hard))
        before = process_time()
        outcome = _read(path, keep)
        _send(replies, replace(outcome, seconds=process_time() - before, peak=_peak_resident() - start))


def _read(path: str, keep: bool) -> Outcome:
    arrays, count, unread, error = {}, 0, 0, None
    try:
        for name, tensor in registry.read(path).tensors.items():
            if isinstance(tensor, UnreadTensor):
                unread += 1
                continue
            array = tensor.read()
            count += 1
            if keep:
                arrays[name] = array
            del array
    except BaseException as raised:  # every kind is reported: all but CheckpointError are mistakes
        error = raised
    kind = "" if error is None else "CheckpointError" if isinstance(error, CheckpointError) else type(error).__name__
    return Outcome(str(error or ""), kind, {} if error else arrays, count, unread)


def _peak_resident() -> int:
    """Return the most memory that this process has ever taken, in bytes, with what is not Python's."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
