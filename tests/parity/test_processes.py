"""Worker processes of backends that hang, lie, leave processes behind, or lose their files; and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resnet_spec import loads
from resnet_spec.parity import processes
from resnet_spec.parity.case import Case
from resnet_spec.parity.processes import FAST_COMPILE_ENV, Failure, WorkerProcess

SMALL = "{name: small, input: [3, 5, 4], stem: {c: {op: conv, out: 2, kernel: 3}}, head: {p: global_avg_pool}}"
CASE = Case(loads(SMALL), level="forward")

HOSTILE = """
import glob, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np, resnet_spec_numpy
from resnet_spec_numpy import CAPABILITIES, DTYPE, build, dump, load

ANSWERS = [fd for fd in range(3, 20) if os.path.exists(f"/proc/self/fd/{fd}")]

def write(text):
    for fd in ANSWERS:
        try:
            os.write(fd, text)
        except OSError:
            pass

def start_child():
    if os.fork() == 0:
        Path("child").write_text(str(os.getpid()))
        time.sleep(1000)
    while not (Path("child").exists() and Path("child").read_text()):
        time.sleep(0.01)

def run(model, images, capture=(), *, train=False, part=""):
    outputs = resnet_spec_numpy.run(model, images, capture, train=train, part=part)
    exec(Path("act.py").read_text())
    return outputs
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], WorkerProcess]]:
    """Return a function that starts a worker of a backend, whose ``run`` also does what a text of Python says."""
    install_hostile_backend(tmp_path)
    monkeypatch.chdir(tmp_path)  # a worker imports from its working directory
    workers = []

    def start(act: str, timeout: float = 60) -> WorkerProcess:
        (tmp_path / "act.py").write_text(act)
        workers.append(WorkerProcess("hostile", timeout))
        workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def install_hostile_backend(folder: Path) -> None:
    (folder / "hostile_backend.py").write_text(HOSTILE)
    info = folder / "hostile-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[resnet_spec.backends]\nhostile = hostile_backend\n")


def is_running(process: int) -> bool:
    """Return whether a process runs; one that has ended, and that nobody has waited for, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does. A test fails by this limit alone, never because a machine is slow."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


ENDINGS = {
    "it dies": ("start_child(); os._exit(5)", "its process exited with status 5"),
    "it exits": ("start_child(); sys.exit(3)", "its process exited with status 3"),
    "a child of another session": (
        "os.setsid() if os.fork() == 0 else os._exit(7); time.sleep(9); os._exit(0)",
        "with status 7",
    ),
    "it closes its answers": ("[os.close(fd) for fd in ANSWERS]; time.sleep(1000)", "closed the pipe for its answers"),
    "an answer too many": ("write(b'done\\n')", "its process gave an answer that is none: 'done'"),
    "an answer to another": ("write(b'done other\\n')", "gave an answer that is none: 'done other'"),
    "invalid bytes": ("write(b'\\xff\\xfe\\n')", "gave an answer that is none: '\ufffd\ufffd'"),
    "an endless answer": ("write(b'x' * 200_000)", "gave an answer that is none: 'xxx"),
    "it reads standard input": ("raise KeyError(sys.stdin.read())", "KeyError: ''"),
    "a surrogate in a message": (r"raise ValueError('\ud800' + 'x' * 9000)", "ValueError: \N{REPLACEMENT CHARACTER}x"),
    "an exception without a text": (
        "class Mute(Exception):\n  def __str__(self): raise ValueError('mute')\nraise Mute",
        "its process exited with status 1: ValueError: mute",
    ),
    "it deletes its request": (
        "for folder in glob.glob(tempfile.gettempdir() + '/resnet-spec-hostile-*'): shutil.rmtree(folder)",
        "No such file",
    ),
    "it writes what is no answer": (
        "for folder in glob.glob(tempfile.gettempdir() + '/resnet-spec-hostile-*'): Path(folder, 'x').write_text('x')",
        "can't exchange files with its process: ",
    ),
}


@pytest.mark.parametrize(("act", "message"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.share(6)
def test_a_bad_answer_is_a_failure_of_its_backend(
    act: str,
    message: str,
    hostile: Callable[[str], WorkerProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "EXIT_SECONDS", 1.0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    worker = hostile(act)
    with pytest.raises(Failure) as failure:
        worker.record(CASE)
    assert message in str(failure.value)
    assert len(str(failure.value)) < 1000
    assert not [*tmp_path.glob("resnet-spec-*")]
    if failure.value.alive:
        (tmp_path / "act.py").write_text("")
        assert worker.record(CASE)["evaluation"]


def test_a_child_ends_with_its_backend(hostile: Callable[[str], WorkerProcess]) -> None:
    worker = hostile("start_child()")
    assert worker.record(CASE)
    child = int(Path("child").read_text())
    assert is_running(child)
    worker.close()
    wait_until(lambda: not is_running(child))


@pytest.mark.parametrize("timeout", [float("nan"), 0.0])
def test_a_worker_without_time_is_stopped(timeout: float, hostile: Callable[[str], WorkerProcess]) -> None:
    worker = hostile("time.sleep(1000)")
    worker.timeout = timeout
    with pytest.raises(Failure, match="no answer within"):
        worker.record(CASE)


PARITY = ("parity", "small.yaml", "--dtype", "float64")
FUZZ = ("fuzz", "--count", "1")


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (signal.SIGTERM, PARITY),
        (signal.SIGHUP, PARITY),
        (signal.SIGKILL, PARITY),
        (signal.SIGINT, PARITY),
        (signal.SIGINT, FUZZ),
    ],
)
@pytest.mark.share(3)
def test_nothing_is_left_after_a_signal(number: signal.Signals, command: tuple[str, ...], tmp_path: Path) -> None:
    install_hostile_backend(tmp_path)
    (tmp_path / "act.py").write_text("start_child(); Path('worker').write_text(str(os.getpid())); time.sleep(1000)")
    (tmp_path / "small.yaml").write_text(SMALL)
    files = tmp_path / "files"
    files.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "resnet_spec", *command, "--backend", "hostile", "--level", "forward"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(files)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ids = [tmp_path / "child", tmp_path / "worker"]
    try:
        wait_until(lambda: all(path.exists() and path.read_text() for path in ids) and any(files.iterdir()))
    finally:
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in errors
    wait_until(lambda: not any(is_running(int(path.read_text())) for path in ids))
    assert not [*files.iterdir()]


def test_flags_of_xla_are_added_to_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    variables = processes._worker_environment(FAST_COMPILE_ENV)
    rounding, fast = "--xla_allow_excess_precision=false", "--xla_backend_optimization_level=0"
    assert variables["XLA_FLAGS"] == f"{rounding} {fast} --xla_dump_to=x"
    monkeypatch.delenv("XLA_FLAGS")
    assert processes._worker_environment(FAST_COMPILE_ENV)["XLA_FLAGS"] == f"{rounding} {fast}"
    assert processes._worker_environment({})["XLA_FLAGS"] == rounding
