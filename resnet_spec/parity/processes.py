"""Backends in processes of their own: a crash, a hang or a wrong answer is that backend's result, and the rest goes on."""

from __future__ import annotations

import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from resnet_spec.backend import BackendError
from resnet_spec.parity.array_files import get
from resnet_spec.parity.case import Case
from resnet_spec.parity.recorder import Record
from resnet_spec.weights.canonical import Array

SECONDS = 600.0
"""How long a backend may take over one case."""

RENEWED = 2000
"""After questions about so many nodes a process is started anew: JAX keeps two megabytes of compiled code for each, 20 for a small network and
2000 for one of 200 layers."""

LARGE = 2**33
"""After a question about a case that takes so many bytes of memory a process is not kept: allocators give back most, not all, and the next needs it."""

HASTY = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
"""An environment for many small networks, each run a few times: compiling one takes JAX half as long, running it longer."""

ENVIRONMENT = {
    "JAX_ENABLE_X64": "1",
    "GLOG_minloglevel": "2",  # no advice from Paddle
    # Backends run side by side: threads of one that wait for the others', busily, would slow them all.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""What a worker's environment is, where the user's does not say otherwise."""


def machine() -> float:
    """Bytes of memory that processes may take together: four fifths of this machine's, or no limit where it does not say what it has."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return 0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Failure(Exception):
    """A backend that gave no answer: what became of it, and its last words. ``alive`` says that it may be asked something else."""

    def __init__(self, message: str, *, alive: bool = False) -> None:
        super().__init__(message)
        self.alive = alive


class Elsewhere:
    """A backend in a process, which is started when it is first asked and again after it has died."""

    def __init__(self, name: str, seconds: float = SECONDS, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.seconds = seconds
        self.environment = environment or {}
        self._nodes = 0
        self._folder = tempfile.TemporaryDirectory(prefix=f"resnet-spec-{name}-")
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str] = queue.Queue()
        self._words: IO[str] | None = None
        self._closed = False

    def ready(self) -> None:
        """Start the process and wait until the framework is imported. Raises BackendError where it can't be, and Failure."""
        if self._process is None:
            self._start()
            reply = self._reply()
            if reply.startswith("missing "):
                self._end()
                raise BackendError(reply.removeprefix("missing "))

    def record(self, case: Case) -> Record:
        """What the backend makes of a case. Raises Failure."""
        found = self._ask("record", case)
        return {group: found[group] for group in case.groups if group in found}

    def alone(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Parts on inputs of their own: outputs by path. Raises Failure."""
        return self._ask("alone", case, train, inputs)["alone"]

    def slopes(self, case: Case) -> dict[str, Array]:
        """The loss's gradient for the output of every part. Raises Failure."""
        return self._ask("slopes", case)["slopes"]

    def pulls(self, case: Case, inputs: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
        """The gradients of parts alone, by ``path:name``. Raises Failure."""
        return self._ask("pulls", case, inputs, slopes)["pulls"]

    def close(self) -> None:
        """End the process, if there is one, and remove what it left. It is not started again."""
        self._closed = True
        self._end()
        self._folder.cleanup()

    def _ask(self, what: str, case: Case, *arguments: Any) -> dict[str, dict[str, Array]]:
        """An answer's arrays, by group and name: views of files, which are removed."""
        nodes = sum(1 for _ in case.network.nodes())
        if self._nodes + nodes > RENEWED:
            self._end()
        self.ready()
        self._nodes += nodes
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            question = Path(folder, "question")
            question.write_bytes(pickle.dumps((what, (case, *arguments))))  # ours, to a process of ours
            self._say(folder)
            reply = self._reply()
            if reply.startswith("error "):
                raise Failure(reply.removeprefix("error "), alive=True)
            question.unlink()
            if case.memory > LARGE:
                self._end()
            return {path.name: get(path) for path in Path(folder).iterdir()}

    def _say(self, line: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise Failure("it was stopped")
        with suppress(OSError):  # where it has died there will be no reply
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def _reply(self) -> str:
        process = self._process
        assert process is not None
        try:
            reply = self._replies.get(timeout=self.seconds)
        except queue.Empty:
            self._end()
            raise Failure(f"no answer in {self.seconds:g} s") from None
        if not reply:
            status, words = process.wait(), self._last_words()
            self._end()
            raise Failure(f"its process {_fate(status)}" + (f": {words}" if words else ""))
        return reply

    def _start(self) -> None:
        if self._closed:
            raise Failure("it was stopped")
        self._words = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # as long as the process
        command = [sys.executable, "-m", "resnet_spec.parity.worker", self.name]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            env={**ENVIRONMENT, **self.environment, **os.environ, "JAX_ENABLE_X64": "1"},
            start_new_session=True,  # an interrupt is this process's to handle
        )
        self._replies = queue.Queue()
        threading.Thread(target=_listen, args=(process.stdout, self._replies), daemon=True).start()
        self._process = process

    def _last_words(self) -> str:
        if self._words is None:
            return ""
        self._words.seek(0)
        lines = [line.strip() for line in self._words.read()[-10_000:].splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._words):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what was still to be said to a process that has died
                        pipe.close()
        self._process = self._words = None
        self._nodes = 0


def _fate(status: int) -> str:
    """What became of a process, as a sentence says it."""
    if status >= 0:
        return f"ended with status {status}"
    name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
    return f"was ended by {name}" + (", as by a system that is out of memory" if name == "SIGKILL" else "")


def _listen(answers: IO[str] | None, replies: queue.Queue[str]) -> None:
    """Hand on each line that a process writes, and an empty one when it ends."""
    try:
        for line in answers or ():
            replies.put(line.strip())
    except ValueError:
        pass  # closed while it was read: the process is at its end
    replies.put("")
