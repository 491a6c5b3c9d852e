"""Worker processes, one per backend, so that a crash or a hang is that backend's result and the others continue."""

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
from resnet_spec.parity.array_files import map_arrays
from resnet_spec.parity.case import Case
from resnet_spec.parity.recorder import Record
from resnet_spec.weights.canonical import Array

DEFAULT_TIMEOUT = 600.0
"""Seconds that a backend may take for one request."""

MAX_NODES_PER_PROCESS = 2000
"""The number of nodes, over all requests, after which a process is restarted.

JAX keeps about 2 MB of compiled code per node: 20 MB for a small network, 2 GB for one of 200 layers.
"""

LARGE_CASE_BYTES = 2**33
"""The estimated memory of a case above which the process is not reused: allocators return most of it, but not all."""

FAST_COMPILE_ENV = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
"""An environment for many small networks that run few times each: JAX compiles twice as fast, but runs more slowly."""

WORKER_ENV = {
    "JAX_ENABLE_X64": "1",
    "GLOG_minloglevel": "2",  # hides Paddle's advice
    # Backends run at the same time, and threads that wait for each other keep a core busy: several would slow all down.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment variables of a worker process, unless the user has set them."""


def usable_memory() -> float:
    """Return the bytes that all processes may use together: 80 % of the machine's memory, or infinity if unknown."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return 0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Failure(Exception):
    """An error in place of a backend's answer. If ``alive``, the backend can still answer other requests."""

    def __init__(self, message: str, *, alive: bool = False) -> None:
        super().__init__(message)
        self.alive = alive


class WorkerProcess:
    """Runs cases in one backend, in a process that starts with the first request, and again if it has ended.

    It is a ``Runner``. Its requests raise Failure if the backend raises an exception, dies, or exceeds the timeout in
    seconds.
    """

    def __init__(
        self, name: str, timeout: float = DEFAULT_TIMEOUT, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.environment = environment or {}
        self._nodes = 0
        self._folder = tempfile.TemporaryDirectory(prefix=f"resnet-spec-{name}-")
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str] = queue.Queue()
        self._stderr: IO[str] | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process if necessary, and wait for the framework's import. Raises BackendError, or Failure."""
        if self._process is None:
            self._launch()
            reply = self._receive()
            if reply.startswith("missing "):
                self._stop()
                raise BackendError(reply.removeprefix("missing "))

    def record(self, case: Case) -> Record:
        """Run a case and return every array that is compared."""
        groups = self._request("record", case)
        return {group: groups[group] for group in case.groups if group in groups}

    def run_parts(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run parts, each on its own input; return their outputs by path."""
        return self._request("run_parts", case, train, inputs)["run_parts"]

    def output_gradients(self, case: Case) -> dict[str, Array]:
        """Return the gradient of the loss with respect to the output of every part, by path."""
        return self._request("output_gradients", case)["output_gradients"]

    def vjps(self, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]) -> dict[str, Array]:
        """Return the vector-Jacobian products of parts, each at its own input, by ``path:name``."""
        return self._request("vjps", case, inputs, cotangents)["vjps"]

    def close(self) -> None:
        """Stop the process for good, and delete its files."""
        self._closed = True
        self._stop()
        self._folder.cleanup()

    def _request(self, request: str, case: Case, *arguments: Any) -> dict[str, dict[str, Array]]:
        """Return the arrays of the answer, by group and name, mapped from files that are already deleted."""
        nodes = sum(1 for _ in case.network.nodes())
        if self._nodes + nodes > MAX_NODES_PER_PROCESS:
            self._stop()
        self.start()
        self._nodes += nodes
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            file = Path(folder, "request")
            file.write_bytes(pickle.dumps((request, (case, *arguments))))  # read only by our own worker
            self._send(folder)
            reply = self._receive()
            if reply.startswith("error "):
                raise Failure(reply.removeprefix("error "), alive=True)
            file.unlink()
            if case.memory > LARGE_CASE_BYTES:
                self._stop()
            return {path.name: map_arrays(path) for path in Path(folder).iterdir()}

    def _send(self, line: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise Failure("the worker process was stopped")
        with suppress(OSError):  # the process has died: _receive says so
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def _receive(self) -> str:
        process = self._process
        assert process is not None
        try:
            reply = self._replies.get(timeout=self.timeout)
        except queue.Empty:
            self._stop()
            raise Failure(f"no answer within {self.timeout:g} s") from None
        if not reply:
            status, last_line = process.wait(), self._read_last_stderr_line()
            self._stop()
            raise Failure(f"its process {_describe_exit(status)}" + (f": {last_line}" if last_line else ""))
        return reply

    def _launch(self) -> None:
        if self._closed:
            raise Failure("the worker process was stopped")
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # open as long as the process
        command = [sys.executable, "-m", "resnet_spec.parity.worker", self.name]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={**WORKER_ENV, **self.environment, **os.environ, "JAX_ENABLE_X64": "1"},
            start_new_session=True,  # Ctrl-C interrupts only this process, which then stops its workers
        )
        self._replies = queue.Queue()
        threading.Thread(target=_forward_lines, args=(process.stdout, self._replies), daemon=True).start()
        self._process = process

    def _read_last_stderr_line(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read()[-10_000:].splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # closing flushes what the process had not read
                        pipe.close()
        self._process = self._stderr = None
        self._nodes = 0


def _describe_exit(status: int) -> str:
    """Return how a process ended, as the predicate of a sentence."""
    if status >= 0:
        return f"exited with status {status}"
    name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
    return f"was killed by {name}" + (", perhaps because the system is out of memory" if name == "SIGKILL" else "")


def _forward_lines(stream: IO[str] | None, replies: queue.Queue[str]) -> None:
    """Put each line that a process writes into a queue, and an empty string when it ends."""
    try:
        for line in stream or ():
            replies.put(line.strip())
    except ValueError:
        pass  # the stream was closed, because the process is being stopped
    replies.put("")
