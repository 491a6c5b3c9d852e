"""Limits of time that hold on any machine: processor time scaled by its speed, and counts of function calls."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import process_time

REFERENCE_SECONDS = 0.008
"""Processor time that ``_work`` takes on the machine for which the limits in the tests were chosen."""

CONTENTION = 2.0
"""Processor time for the same work may double while other processes use the caches and the other half of a core."""

COUNT = """
import sys
calls = 0
def profile(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(profile)
from resnet_spec.commands.main import main
sys.argv = ["resnet-spec", *sys.argv[1:]]
try:
    main()
except SystemExit as done:
    sys.setprofile(None)
    assert done.code == 0, done.code
print(calls, file=sys.stderr)
"""


@contextmanager
def limited_calls(limit: int) -> Iterator[list[int]]:
    """Fail if the block calls more functions than ``limit``, as soon as it does; yield a list with their number.

    Python's own functions count too, such as those of regular expressions, each as one call.
    """
    count = [0]

    def profile(frame: object, event: str, argument: object) -> None:
        count[0] += event in ("call", "c_call")
        if count[0] > limit:
            sys.setprofile(None)
            raise TooManyCalls(f"more than {limit:,} calls")

    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(None)


class TooManyCalls(BaseException):
    """Raised where a limit is exceeded, so that no ``except Exception`` of the code under test stops it."""


@cache
def scaled(seconds: float) -> float:
    """Return a limit of processor time for this machine, from one for the reference machine."""
    return seconds * max(1.0, min(_work() for _ in range(5)) / REFERENCE_SECONDS) * CONTENTION


def _work() -> float:
    """Return the processor time of a fixed amount of work: dictionary look-ups, string operations and calls."""
    before = process_time()
    table = {str(number): number for number in range(1000)}
    total = 0
    for number in range(100_000):
        total += table[str(number % 1000)]
    assert total == 49_950_000
    return process_time() - before


def count_calls(*arguments: str) -> int:
    """Return how many functions ``resnet-spec`` calls for these arguments, all imports included."""
    command = [sys.executable, "-c", COUNT, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()[-1])
