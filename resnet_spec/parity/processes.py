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
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from resnet_spec.backend import OUTPUT, BackendError
from resnet_spec.diagnostics.problems import one_line
from resnet_spec.parity.array_files import map_arrays
from resnet_spec.parity.case import Case, Group
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
    # XLA otherwise leaves out roundings to 16 bits between operations that it fuses.
    "XLA_FLAGS": "--xla_allow_excess_precision=false",
    "GLOG_minloglevel": "2",  # hides Paddle's advice
    # Backends run at the same time, and threads that wait for each other keep a core busy: several would slow all down.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment variables of a worker process, unless the user has set them."""

POLL_SECONDS = 0.2
"""How often a wait for an answer looks whether the process still runs, since another may hold its pipe open."""

EXIT_SECONDS = 5.0
"""How long to wait for the exit of a process that was killed, or that closed its answers."""

MAX_ANSWER_BYTES = 2**16
MAX_WAITING_ANSWERS = 16
"""How many answers are kept that nobody has asked for. A worker gives one for each request."""

START = "start"
"""What the first answer of a process is an answer to, in place of a request's folder."""


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
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._stderr: IO[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process if necessary, and wait for the framework's import. Raises BackendError, or Failure."""
        if self._process is None:
            self._launch()
            verdict, message = self._receive(START)
            if verdict == "missing":
                self._stop()
                raise BackendError(message)

    def record(self, case: Case) -> Record:
        """Run a case and return every array that is compared."""
        groups = self._request("record", case)
        return {group: groups[group] for group in case.recorded_groups if group in groups}

    def infer(self, case: Case) -> dict[str, Array]:
        """Return the outputs of a case's network in inference mode, as ``recorder.infer`` does."""
        return self._request("infer", case)["infer"]

    def run_parts(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run parts, each on its own input; return their outputs by path."""
        return self._request_group("run_parts", case, train, inputs)

    def output_gradients(self, case: Case) -> dict[str, Array]:
        """Return the gradient of the loss with respect to the output of every part, by path."""
        return self._request_group("output_gradients", case)

    def vjps(self, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]) -> dict[str, Array]:
        """Return the vector-Jacobian products of parts, each at its own input, by ``path:name``."""
        return self._request_group("vjps", case, inputs, cotangents)

    def central_difference(self, case: Case, number: int, step: float) -> float:
        """Return the slope of the loss in float64 along a direction, as ``slopes.central_difference`` does."""
        return float(self._request("central_difference", case, number, step)["central_difference"][OUTPUT][0])

    def judge_parts(self, case: Case, group: Group, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the error and the gate of each output of a group in 16 bits, as ``part_gates.judge_parts`` does."""
        return self._request_group("judge_parts", case, group, outputs)

    def close(self) -> None:
        """Stop the process for good, with all that it started."""
        self._closed = True
        self._stop()

    def _request_group(self, request: str, case: Case, *arguments: Any) -> dict[str, Array]:
        """Return the arrays of an answer of one group, which is called as the request."""
        groups = self._request(request, case, *arguments)
        if request not in groups:
            raise Failure("its answer holds no arrays", alive=True)
        return groups[request]

    def _request(self, request: str, case: Case, *arguments: Any) -> dict[str, dict[str, Array]]:
        """Return the arrays of the answer, by group and name, mapped from files that are already deleted."""
        nodes = sum(1 for _ in case.network.nodes())
        if self._nodes + nodes > MAX_NODES_PER_PROCESS:
            self._stop()
        try:
            self.start()
            self._nodes += nodes
            with tempfile.TemporaryDirectory(prefix=f"resnet-spec-{self.name}-", ignore_cleanup_errors=True) as folder:
                return self._exchange(Path(folder), (request, (case, *arguments)), case.memory > LARGE_CASE_BYTES)
        except (OSError, ValueError) as error:  # no memory, a full disk, or an answer that is missing or damaged
            raise Failure(f"can't exchange files with its process: {error}", alive=self._process is not None) from None

    def _exchange(self, folder: Path, question: Any, stop: bool) -> dict[str, dict[str, Array]]:
        """Put a question into a folder, wait for the answer, stop the process if asked to, and map the answer."""
        file = folder / "request"
        file.write_bytes(pickle.dumps(question))  # read only by our own worker
        self._send(str(folder))
        verdict, message = self._receive(folder.name)
        if verdict == "error":
            raise Failure(message, alive=True)
        file.unlink()
        if stop:
            self._stop()
        return {path.name: map_arrays(path) for path in folder.iterdir()}

    def _send(self, line: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise Failure("the worker process was stopped")
        with suppress(OSError):  # the process has died: _receive says so
            process.stdin.write(os.fsencode(f"{line}\n"))
            process.stdin.flush()

    def _receive(self, request: str) -> tuple[str, str]:
        """Return the verdict and the message of the answer to a request. Raises Failure, and stops the process."""
        line = self._wait_for_line()
        verdict, _, rest = line.partition(" ")
        subject, _, message = rest.partition(" ")
        if verdict not in ("ready", "missing", "done", "error") or subject != request:
            self._stop()
            raise Failure(f"its process gave an answer that is none: {line[:100]!r}")
        return verdict, message

    def _wait_for_line(self) -> str:
        process, deadline = self._process, time.monotonic() + self.timeout
        assert process is not None
        line: str | None = None
        while line is None:
            remaining = deadline - time.monotonic()
            status = process.poll()
            try:
                line = self._answers.get(timeout=min(POLL_SECONDS, max(remaining, 0)))
            except queue.Empty:
                if self._closed or status is not None:
                    raise self._ended(process) from None
                if not remaining > 0:  # also if the timeout is NaN
                    self._stop()
                    raise Failure(f"no answer within {self.timeout:g} s") from None
            else:
                if line is None:
                    raise self._ended(process)
        return line

    def _ended(self, process: subprocess.Popen[bytes]) -> Failure:
        """Stop the process; return why no answer can come from it any more."""
        if self._closed:
            self._stop()
            return Failure("the worker process was stopped")
        with suppress(subprocess.TimeoutExpired):  # it runs on, but without a pipe for its answers
            process.wait(EXIT_SECONDS)
        status, last_line = process.poll(), self._read_last_stderr_line()
        self._stop()
        how = "closed the pipe for its answers" if status is None else _describe_exit(status)
        return Failure(f"its process {how}" + (f": {last_line}" if last_line else ""))

    def _launch(self) -> None:
        if self._closed:
            raise Failure("the worker process was stopped")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        process = subprocess.Popen(
            [sys.executable, "-m", "resnet_spec.parity.worker", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_worker_environment(self.environment),
            start_new_session=True,  # Ctrl-C interrupts only this process, which then stops its workers
        )
        assert process.stdout is not None
        self._answers = queue.Queue()
        threading.Thread(target=_forward_lines, args=(process.stdout, self._answers), daemon=True).start()
        self._process = process

    def _read_last_stderr_line(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 10_000))
        text = self._stderr.read(10_000).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return one_line(lines[-1]) if lines else ""

    def _stop(self) -> None:
        """Kill the process and all that it started. The pipe of its answers is closed by the thread that reads it."""
        process, stderr = self._process, self._stderr
        self._process = self._stderr = None
        self._nodes = 0
        if process is not None:
            _kill_group(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(EXIT_SECONDS)
            for pipe in (process.stdin, stderr):
                if pipe is not None:
                    with suppress(OSError):  # closing flushes what the process had not read
                        pipe.close()


def _worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a worker: the user's, and ours where the user has set none.

    XLA reads many flags from one variable, and the last of two that are alike, so there both are kept.
    """
    variables = {**WORKER_ENV, **environment, **os.environ, "JAX_ENABLE_X64": "1"}
    flags = [source["XLA_FLAGS"] for source in (WORKER_ENV, environment, os.environ) if "XLA_FLAGS" in source]
    return variables | ({"XLA_FLAGS": " ".join(flags)} if flags else {})


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and what it started, which may live on when the process itself has ended."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # macOS does not permit it for one that has ended
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _describe_exit(status: int) -> str:
    """Return how a process ended, as the predicate of a sentence."""
    if status >= 0:
        return f"exited with status {status}"
    name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
    return f"was killed by {name}" + (", perhaps because the system is out of memory" if name == "SIGKILL" else "")


def _forward_lines(stream: IO[bytes], answers: queue.Queue[str | None]) -> None:
    """Put each line that a process writes into a queue, and None when nobody can write any more; close the pipe.

    A line may hold any bytes, since what runs in the process is not ours.
    """
    with stream:
        while line := stream.readline(MAX_ANSWER_BYTES):
            if answers.qsize() < MAX_WAITING_ANSWERS:
                answers.put(line.decode(errors="replace").strip())
    answers.put(None)
