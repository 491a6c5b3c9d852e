"""Measure the speed of the core, which needs no framework. ``run.py`` runs this script, which prints JSON lines."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from measure import Case, Figure, make_figure, parse_arguments, print_records

from resnet_spec import load, loads

IMPORT = """
import time
start = time.perf_counter()
import resnet_spec
print(1000 * (time.perf_counter() - start))
import sys
assert not {"numpy", "torch", "paddle", "jax", "flax"} & set(sys.modules)
"""
DEPTHS = (14, 140, 1400)
"""Numbers of blocks. A spec can have 10,000 operations and blocks."""


def time_milliseconds(run: Callable[[], object], rounds: int) -> list[float]:
    """Return the milliseconds of each round, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return times[1:]


def measure_import(rounds: int) -> Figure:
    """Measure the import in a new process. Fails if it imports a framework or NumPy."""
    command = [sys.executable, "-c", IMPORT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    times = [float(subprocess.check_output(command)) for _ in range(rounds)]
    return make_figure(times, Case("core", "", 0, "import resnet_spec"), "ms")


def measure_load(name: str, rounds: int) -> Figure:
    return make_figure(time_milliseconds(lambda: load(name), rounds), Case("core", name, 0, "load"), "ms")


def deep_spec(blocks: int) -> str:
    return f"{{name: deep, input: [3, 8, 8], stages: {{a: {{block: basic, depth: {blocks}, out: 8}}}}}}"


def measure_load_per_operation(rounds: int) -> list[Figure]:
    """Measure the microseconds per operation of loading networks of different depths."""
    figures = []
    for blocks in DEPTHS:
        text = deep_spec(blocks)
        count = len(list(loads(text).leaves()))
        times = [1000 * milliseconds / count for milliseconds in time_milliseconds(partial(loads, text), rounds)]
        figures.append(make_figure(times, Case("core", f"{count} operations", 0, "load, an operation"), "µs"))
    return figures


def measure_show(name: str, rounds: int) -> Figure:
    """Measure the command, including the start of its process."""
    command = [sys.executable, "-m", "resnet_spec", "show", name]
    times = time_milliseconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), rounds)
    return make_figure(times, Case("core", name, 0, "resnet-spec show"), "ms")


def main() -> None:
    options = parse_arguments()
    rounds = max(7, options.rounds)
    print_records([measure_import(rounds), measure_load("resnet152", rounds), measure_show("resnet50", rounds)])
    print_records(measure_load_per_operation(rounds))


if __name__ == "__main__":
    main()
