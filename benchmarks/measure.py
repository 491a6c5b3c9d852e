"""Time candidates in turn, round by round, so that whatever else the machine does falls on all alike; what is kept are ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

ROUNDS = 9
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Row:
    """How much faster ours is than a peer's: the ratio of the medians, and the quartiles of the rounds' ratios.

    ``share`` is that of the rate of matrix products of the same operations, measured in the same rounds; 0 where it was not.
    """

    framework: str
    model: str
    batch: int
    what: str
    peer: str
    ratio: float
    low: float
    high: float
    ours_ms: float
    peer_ms: float
    share: float = 0.0
    unit: str = "ms"

    def json(self) -> dict[str, object]:
        return {
            key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in asdict(self).items()
        }


def in_turn(candidates: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after a warm-up."""
    for _ in range(WARM_UP):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in candidates.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
            gc.collect()
    finally:
        gc.enable()
    return seconds


def compared(
    seconds: Mapping[str, list[float]], ours: str, peer: str, *, framework: str, model: str, batch: int, what: str
) -> Row:
    """One candidate against another, of those that were timed in turn."""
    by_round = [theirs / own for theirs, own in zip(seconds[peer], seconds[ours], strict=True)]
    low, _, high = statistics.quantiles(by_round, n=4)
    own, theirs = statistics.median(seconds[ours]), statistics.median(seconds[peer])
    products = statistics.median(seconds[PRODUCTS]) if PRODUCTS in seconds else 0.0
    return Row(framework, model, batch, what, peer, theirs / own, low, high, own * 1000, theirs * 1000, products / own)


PRODUCTS = "matrix products"
"""The candidate that multiplies matrices of the sizes that the network's operations do, and nothing else."""
