"""What the scripts that measure on a GPU share: their options, and how long they may measure."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from measure import time_in_turn

CHECKPOINTS: Sequence[Literal["blocks"] | None] = (None, "blocks")
"""The values of ``checkpoint`` that memory is measured for."""

RowGroup: TypeAlias = Callable[[], Iterator[Sequence[Any]]]
"""A function that yields rows as they are measured."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where and for how long to measure, and the networks beside resnet50."""

    device: str
    seconds: float
    tiny: bool

    @property
    def size(self) -> int:
        """The height and width of images."""
        return 32 if self.tiny else 224

    @property
    def others(self) -> Sequence[str]:
        return (
            () if self.tiny else ("resnet18", "resnet152", "torchvision/efficientnet_b0", "torchvision/convnext_tiny")
        )

    def time(self, candidates: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Return the seconds of each candidate in each round."""
        return time_in_turn(candidates, 2 if self.tiny else 15, 0.1)


def parse_options() -> Options:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=140)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    return Options(arguments.device, arguments.seconds, arguments.tiny)


def measure_rows(
    groups: Iterable[RowGroup],
    options: Options,
    start: float,
    print_records: Callable[[Iterable[Any]], None],
) -> None:
    """Print the rows of each group as they are measured, until time is up. A group that fails costs its own rows."""
    for group in groups:
        try:
            for records in group():
                print_records(records)
                if time.monotonic() - start > options.seconds:
                    print("time is up; the remaining rows are not measured", file=sys.stderr)
                    return
        except (RuntimeError, ValueError) as error:
            print(f"not measured: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
