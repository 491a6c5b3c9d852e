"""The worker process of one backend: ``python -m resnet_spec.parity.worker BACKEND``.

It reads the path of a folder from each line of its input. In the folder lies a pickled ``request``; the worker writes a
file of arrays for each group of its answer beside it, then a line to its output: ``done`` and the folder's name, or
``error``, the folder's name and a message. It ends, with all that it started, when its input ends: then the process
that asks has ended too, however that came about.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from resnet_spec.backend import OUTPUT, BackendError, load_backend
from resnet_spec.diagnostics.problems import one_line
from resnet_spec.parity import part_gates, recorder, slopes
from resnet_spec.parity.array_files import write_arrays
from resnet_spec.parity.processes import START
from resnet_spec.weights.canonical import Array

MAX_MESSAGE = 500
"""The longest message of an error, in characters."""


def main(name: str) -> NoReturn:
    """Answer requests until the input ends. The first line of the output says ``ready``, or ``missing`` and why."""
    # Frameworks may read standard input, and print to standard output: requests and answers have pipes of their own.
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    folders: queue.Queue[Path] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests, folders), daemon=True).start()
    try:
        backend = load_backend(name)
    except BackendError as error:
        answers.write(f"missing {START} {_summarize(str(error))}\n")
        _end()
    answers.write(f"ready {START}\n")
    while True:
        folder = folders.get()
        try:
            # The request is from the process that started this one.
            request, arguments = pickle.loads((folder / "request").read_bytes())
            for group, arrays in _answer(backend, request, arguments):
                write_arrays(folder / group, arrays)
                del arrays  # before the next group is computed: each may take gigabytes
        except Exception as error:  # whatever a framework raises is the backend's result
            traceback.print_exc()
            answers.write(f"error {folder.name} {type(error).__name__}: {_summarize(str(error))}\n")
        else:
            answers.write(f"done {folder.name}\n")


def _read_requests(requests: IO[bytes], folders: queue.Queue[Path]) -> None:
    """Put each folder into a queue. When the input ends, delete the last folder and end this process."""
    folder = None
    for line in requests:
        if line.endswith(b"\n"):  # never a path that was cut off
            folder = Path(os.fsdecode(line[:-1]))
            folders.put(folder)
    for _ in range(2):  # the other thread may have begun a file meanwhile
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    _end()


def _end() -> NoReturn:
    """End this process and those that it started, without waiting for anything."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _summarize(text: str) -> str:
    line = one_line(" ".join(text.split()))
    return line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]} ..."


def _answer(backend: Any, request: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, Mapping[str, Array]]]:
    match request:
        case "record":
            yield from recorder.record(backend, *arguments)
        case "infer":
            yield request, recorder.infer(backend, *arguments)
        case "run_parts":
            yield request, recorder.run_parts(backend, *arguments)
        case "output_gradients":
            yield request, recorder.output_gradients(backend, *arguments)
        case "vjps":
            yield request, recorder.vjps(backend, *arguments)
        case "judge_parts":
            yield request, part_gates.judge_parts(backend, *arguments)
        case "central_difference":
            yield request, {OUTPUT: np.array([slopes.central_difference(backend, *arguments)])}
        case _:
            raise ValueError(f"unknown request {request!r}")


if __name__ == "__main__":
    main(sys.argv[1])
