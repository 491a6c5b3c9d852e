"""Time candidates in turn, round by round, so that whatever else the machine does falls on all alike; what is kept are ratios."""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROUNDS = 7
WARM_UP = 2
LEAST = 6
"""Seconds that rounds go on for."""
PRODUCTS = "matrix products"
"""What candidates are called that multiply matrices of the sizes that the network's operations do, and nothing else. The fastest counts."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a framework, a network, images in a batch (none where no images are run), and doing what."""

    framework: str
    model: str
    batch: int
    what: str


@dataclass(frozen=True, slots=True)
class Row:
    """How many times a peer's median ours is of, so that more is better, and the quartiles of the rounds' ratios.

    ``share`` is that of the rate of matrix products of the same operations, measured in the same rounds; 0 where it was not.
    """

    case: Case
    peer: str
    ratio: float
    low: float
    high: float
    ours: float
    theirs: float
    share: float = 0.0
    unit: str = "ms"


@dataclass(frozen=True, slots=True)
class Figure:
    """A median that stands for itself, with its quartiles."""

    case: Case
    value: float
    low: float
    high: float
    unit: str


def in_turn(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after a warm-up: so many rounds, or more if they are short.

    Every round has an order of its own: who comes after whom matters.
    """
    for _ in range(WARM_UP):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + LEAST
        while len(next(iter(seconds.values()))) < rounds or time.perf_counter() < end:
            for name in order.sample(list(candidates), len(candidates)):
                start = time.perf_counter()
                candidates[name]()
                seconds[name].append(time.perf_counter() - start)
            gc.collect()
    finally:
        gc.enable()
    return seconds


def compared(seconds: Mapping[str, list[float]], ours: str, peer: str, case: Case) -> Row:
    """One candidate against another, of those that were timed in turn."""
    products = min(
        (statistics.median(times) for name, times in seconds.items() if name.startswith(PRODUCTS)), default=0
    )
    row = against([1000 * x for x in seconds[ours]], [1000 * x for x in seconds[peer]], peer, case, "ms")
    return Row(case, peer, row.ratio, row.low, row.high, row.ours, row.theirs, 1000 * products / row.ours)


def against(ours: Sequence[float], theirs: Sequence[float], peer: str, case: Case, unit: str) -> Row:
    """Measurements of ours and a peer's, taken in turn, of which less is better."""
    low, _, high = statistics.quantiles((b / a for a, b in zip(ours, theirs, strict=True)), n=4)
    own, other = statistics.median(ours), statistics.median(theirs)
    return Row(case, peer, other / own, low, high, own, other, unit=unit)


def figure(values: Sequence[float], case: Case, unit: str) -> Figure:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Figure(case, middle, low, high, unit)


def flat(record: Row | Figure) -> dict[str, object]:
    """A record as JSON has it, numbers to four digits."""
    values = asdict(record)
    values = values.pop("case") | values
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}


def say(records: Iterable[Row | Figure]) -> None:
    """Print records at once, a line of JSON each, so that none is lost if a later one fails."""
    for record in records:
        print(json.dumps(flat(record)), flush=True)


def asked() -> argparse.Namespace:
    """What ``run.py`` asks of a process: a network, batches, rounds, and whether compilers are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--alone", nargs=2, metavar=("WHAT", "WHOSE"), help="measure one thing in this process, once")
    return parser.parse_args()


def alone(script: str, model: str, what: str, whose: str, batch: int = 0) -> float:
    """A measurement that a process of its own prints."""
    command = [sys.executable, script, model, "--alone", what, whose, "--batch", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def grown(run: Callable[[], object]) -> float:
    """By how many MiB a process was larger, at its largest, while something ran than it is now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak until now
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
