"""How quick the core is, without a framework: lines of JSON. ``run.py`` calls this, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from measure import Case, Figure, asked, figure, say

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
"""In blocks. A spec may have 10,000 operations and blocks."""


def milliseconds(run: Callable[[], object], rounds: int) -> list[float]:
    """After one time that is not counted."""
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        found.append(1000 * (time.perf_counter() - start))
    return found[1:]


def imported(rounds: int) -> Figure:
    """What the import takes in a new process. It fails if a framework or NumPy comes with it."""
    command = [sys.executable, "-c", IMPORT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    times = [float(subprocess.check_output(command)) for _ in range(rounds)]
    return figure(times, Case("core", "", 0, "import resnet_spec"), "ms")


def loaded(name: str, rounds: int) -> Figure:
    return figure(milliseconds(lambda: load(name), rounds), Case("core", name, 0, "load"), "ms")


def deep(blocks: int) -> str:
    return f"{{name: deep, input: [3, 8, 8], stages: {{a: {{block: basic, depth: {blocks}, out: 8}}}}}}"


def linear(rounds: int) -> list[Figure]:
    """The microseconds that an operation takes to load, in networks of more and more."""
    found = []
    for blocks in DEPTHS:
        text = deep(blocks)
        count = len(list(loads(text).leaves()))
        times = [1000 * took / count for took in milliseconds(partial(loads, text), rounds)]
        found.append(figure(times, Case("core", f"{count} operations", 0, "load, an operation"), "µs"))
    return found


def shown(name: str, rounds: int) -> Figure:
    """The command as a process, from its start to its end."""
    command = [sys.executable, "-m", "resnet_spec", "show", name]
    times = milliseconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), rounds)
    return figure(times, Case("core", name, 0, "resnet-spec show"), "ms")


def main() -> None:
    options = asked()
    rounds = max(7, options.rounds)
    say([imported(rounds), loaded("resnet152", rounds), shown("resnet50", rounds)])
    say(linear(rounds))


if __name__ == "__main__":
    main()
