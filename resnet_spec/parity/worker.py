"""A process that answers for one backend: ``python -m resnet_spec.parity.worker BACKEND`` reads the folders of questions, a line each."""

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
from resnet_spec.parity.array_files import put
from resnet_spec.weights.canonical import Array


def main(name: str) -> None:
    """Answer until there are no more questions: an answer's groups lie beside its question, a file each, and a line says so."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a framework prints is not an answer
    try:
        backend = load_backend(name)
    except BackendError as error:
        answers.write(f"missing {error}\n")
        return
    answers.write("ready\n")
    for line in sys.stdin:
        folder = Path(line.strip())
        try:
            what, arguments = pickle.loads((folder / "question").read_bytes())  # from the process that started this one
            for group, found in _answered(backend, what, arguments):
                put(folder / group, found)
                del found  # one group at a time: each may be gigabytes
        except Exception as error:  # whatever a framework raises is its result
            traceback.print_exc()
            answers.write(f"error {type(error).__name__}: {' '.join(str(error).split())}\n")
        else:
            answers.write("done\n")


def _answered(backend: Any, what: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, Mapping[str, Array]]]:
    match what:
        case "record":
            yield from recorder.record(backend, *arguments)
        case "alone":
            yield what, recorder.alone(backend, *arguments)
        case "slopes":
            yield what, recorder.slopes(backend, *arguments)
        case "pulls":
            yield what, recorder.pulls(backend, *arguments)
        case _:
            raise ValueError(f"no question is called {what!r}")


if __name__ == "__main__":
    main(sys.argv[1])
