"""The worker process of one backend: ``python -m resnet_spec.parity.worker BACKEND``.

It reads the path of a folder from each line of its input. In the folder lies a pickled ``request``; the worker writes a
file of arrays for each group of its answer beside it, then a line to its output: ``done``, or ``error`` and a message.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet_spec.backend import BackendError, load_backend
from resnet_spec.parity import recorder
from resnet_spec.parity.array_files import write_arrays
from resnet_spec.weights.canonical import Array


def main(name: str) -> None:
    """Answer requests until the input ends. The first line of the output is ``ready``, or ``missing`` and a message."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # frameworks may print to standard output, which is for replies
    try:
        backend = load_backend(name)
    except BackendError as error:
        replies.write(f"missing {error}\n")
        return
    replies.write("ready\n")
    for line in sys.stdin:
        folder = Path(line.strip())
        try:
            request, arguments = pickle.loads(
                (folder / "request").read_bytes()
            )  # from the process that started this one
            for group, arrays in _answer(backend, request, arguments):
                write_arrays(folder / group, arrays)
                del arrays  # before the next group is computed: each may take gigabytes
        except Exception as error:  # whatever a framework raises is the backend's result
            traceback.print_exc()
            replies.write(f"error {type(error).__name__}: {' '.join(str(error).split())}\n")
        else:
            replies.write("done\n")


def _answer(backend: Any, request: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, Mapping[str, Array]]]:
    match request:
        case "record":
            yield from recorder.record(backend, *arguments)
        case "run_parts":
            yield request, recorder.run_parts(backend, *arguments)
        case "output_gradients":
            yield request, recorder.output_gradients(backend, *arguments)
        case "vjps":
            yield request, recorder.vjps(backend, *arguments)
        case _:
            raise ValueError(f"unknown request {request!r}")


if __name__ == "__main__":
    main(sys.argv[1])
