"""Time candidates in turn, so that other load on the machine affects all of them alike. Results are ratios."""

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
MIN_SECONDS = 6
"""Shortest time for all rounds together."""
PRODUCTS = "matrix products"
"""Prefix of candidates that compute only the matrix products of a network's operations. The fastest one counts."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a framework, a network, the images in a batch (0 if none are run), and the task."""

    framework: str
    model: str
    batch: int
    what: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The speed relative to a peer: the ratio of medians, and the quartiles of the ratios in each round.

    Higher is better. ``share`` is the speed relative to the matrix products of the same operations, measured in the
    same rounds, or 0 if it was not measured.
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
    """A median that is not compared with a peer, and its quartiles."""

    case: Case
    value: float
    low: float
    high: float
    unit: str


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]], rounds: int, min_seconds: float = MIN_SECONDS
) -> dict[str, list[float]]:
    """Return the seconds of each candidate in each round, after a warm-up. Short rounds are repeated more often.

    The order is random in every round, because a candidate's time depends on the one before it.
    """
    for _ in range(WARM_UP):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    rng = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + min_seconds
        while len(next(iter(seconds.values()))) < rounds or time.perf_counter() < end:
            for name in rng.sample(list(candidates), len(candidates)):
                start = time.perf_counter()
                candidates[name]()
                seconds[name].append(time.perf_counter() - start)
            gc.collect()
    finally:
        gc.enable()
    return seconds


def compare(seconds: Mapping[str, list[float]], ours: str, peer: str, case: Case) -> Comparison:
    """Compare two of the candidates that were timed in turn."""
    products = min(
        (statistics.median(times) for name, times in seconds.items() if name.startswith(PRODUCTS)), default=0
    )
    row = make_comparison([1000 * x for x in seconds[ours]], [1000 * x for x in seconds[peer]], peer, case, "ms")
    return Comparison(case, peer, row.ratio, row.low, row.high, row.ours, row.theirs, 1000 * products / row.ours)


def make_comparison(ours: Sequence[float], theirs: Sequence[float], peer: str, case: Case, unit: str) -> Comparison:
    """Compare measurements that were taken in turn, of which lower is better."""
    low, _, high = statistics.quantiles((b / a for a, b in zip(ours, theirs, strict=True)), n=4)
    own, other = statistics.median(ours), statistics.median(theirs)
    return Comparison(case, peer, other / own, low, high, own, other, unit=unit)


def make_figure(values: Sequence[float], case: Case, unit: str) -> Figure:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Figure(case, middle, low, high, unit)


def to_json(record: Comparison | Figure) -> dict[str, object]:
    """Return a record as JSON data, with numbers rounded to four digits."""
    values = asdict(record)
    values = values.pop("case") | values
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}


def print_records(records: Iterable[Comparison | Figure]) -> None:
    """Print each record as a line of JSON, immediately, so that none is lost if a later measurement fails."""
    for record in records:
        print(json.dumps(to_json(record)), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the arguments that ``run.py`` passes: a network, batches, rounds, and whether compilers are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--alone", nargs=2, metavar=("WHAT", "WHOSE"), help="measure one thing in this process, once")
    return parser.parse_args()


def measure_in_process(script: str, model: str, what: str, whose: str, batch: int = 0) -> float:
    """Return a measurement that a separate process prints."""
    command = [sys.executable, script, model, "--alone", what, whose, "--batch", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory_growth(run: Callable[[], object]) -> float:
    """Return by how many MiB the peak memory of this process exceeds its current memory while a function runs."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before = _read_status("VmRSS")
    run()
    return (_read_status("VmHWM") - before) / 1024


def _read_status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
