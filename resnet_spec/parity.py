"""Whether backends compute the same network: every named node against the reference, and the first one that is off."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.network import Network
from resnet_spec.weights import Array, recipe

REFERENCE = "numpy"
GATES = {"float64": 1e-12, "float32": 1e-5}
SIZE = (72, 56)
"""A height and width to compare at: in networks that halve five times, maps are odd and even both."""
BATCH = 2
SECONDS = 600

Progress: TypeAlias = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Result:
    """One backend's evaluation of one network in one type, against the reference.

    Attributes:
        nodes: How many nodes were compared, the output among them.
        worst: The largest difference at any node, relative to the node's largest magnitude.
        node: Where that is; or, if a gate is passed, the first node in order that passes it.
        failure: Why there is nothing to compare, if so: the backend's last words.
    """

    network: str
    backend: str
    dtype: str
    nodes: int
    worst: float
    node: str
    failure: str = ""

    @property
    def same(self) -> bool:
        return not self.failure and self.nodes > 0 and self.worst <= GATES[self.dtype]


def compare(
    network: Network,
    backends: Sequence[str],
    dtypes: Sequence[str],
    progress: Progress | None = None,
) -> list[Result]:
    """Evaluate a network in each backend, in a process of its own, on random weights and images, and compare with NumPy.

    The images have the network's input size: load it with another to compare at that.
    """
    images = np.random.default_rng(0).standard_normal((BATCH, *network.input))
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder)
        (case / "network.pickle").write_bytes(pickle.dumps((network, list(dtypes))))
        np.savez(case / "weights.npz", **recipe(network))  # type: ignore[arg-type]
        np.save(case / "images.npy", images)
        failures = {}
        for backend in dict.fromkeys([REFERENCE, *backends]):
            with (progress or _quiet)(f"{network.name} in {backend}"):
                failures[backend] = _run(backend, case)
        return [
            Result(network.name, backend, dtype, 0, np.inf, "", failures[backend] or failures[REFERENCE])
            if failures[backend] or failures[REFERENCE]
            else _compared(network.name, backend, dtype, case)
            for backend in backends
            for dtype in dtypes
        ]


def _run(backend: str, case: Path) -> str:
    """Run the case in a process. What went wrong, if anything did."""
    command = [sys.executable, "-m", "resnet_spec.worker", backend, str(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {SECONDS} s"
    if done.returncode == 0:
        return ""
    words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return words[-1]


def _compared(network: str, backend: str, dtype: str, case: Path) -> Result:
    with np.load(case / f"{REFERENCE}.{dtype}.npz") as wanted, np.load(case / f"{backend}.{dtype}.npz") as found:
        names = list(wanted.files)
        errors = {name: _error(wanted[name], found[name]) if name in found.files else np.inf for name in names}
    off = next((name for name in names if not errors[name] <= GATES[dtype]), None)
    node = off or max(names, key=errors.__getitem__)
    return Result(network, backend, dtype, len(names), errors[node] if off else max(errors.values()), node)


def _error(wanted: Array, found: Array) -> float:
    """The largest difference, relative to the largest magnitude; infinite for another shape, type, or anything not finite."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype or not np.isfinite(found).all():
        return np.inf
    scale = np.abs(wanted).max(initial=0)
    difference = np.abs(wanted - found).max(initial=0)
    return float(difference / scale) if scale else float(difference)


def _quiet(message: str) -> AbstractContextManager[object]:
    return nullcontext()


def as_table(results: Sequence[Result]) -> Table:
    """Results for a terminal."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("network", "backend", "type"):
        table.add_column(heading, no_wrap=True)
    for heading in ("nodes", "worst", "gate"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for result in results:
        verdict = "same" if result.same else result.failure or f"differs first at {result.node}"
        figures = (str(result.nodes), f"{result.worst:.1e}", f"{GATES[result.dtype]:.0e}")
        style = None if result.same else "bold red"
        table.add_row(result.network, result.backend, result.dtype, *figures, verdict, style=style)
    table.caption = f"worst: largest difference from {REFERENCE} at any node, relative to the node's largest magnitude"
    table.caption_justify = "left"
    return table


def as_data(result: Result) -> dict[str, object]:
    """A result for ``--json``."""
    return {**asdict(result), "worst": result.worst if np.isfinite(result.worst) else None, "same": result.same}
