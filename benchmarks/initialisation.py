"""Compare the speed of initialization with PyTorch's on the same network: ``python benchmarks/initialisation.py``.

PyTorch initializes an existing model as torchvision does: He normal for convolutions, and ``reset_parameters`` for the
rest. Both use all cores and take turns. Results are ratios of medians within one run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from resnet_spec import build, load
from resnet_spec.weights.canonical import initialize

MIN_SPEED = 1.0  # relative to PyTorch


def main() -> None:
    """Print a table with a row for each network. The exit status is 0 if initialization is as fast as in PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["resnet18", "resnet50", "resnet152", "wide_resnet101_2"])
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    table = Table(title=f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in PyTorch")
    for heading in ("network", "weights", "PyTorch", "resnet-spec", "speed / PyTorch's"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    passed = True
    for name in arguments.networks:
        network = load(name)
        model = build(network, backend="torch")
        torch_s, own_s = _time_in_turn(
            partial(_initialize_by_torch, model), partial(initialize, network), arguments.repeat
        )
        ratio = torch_s / own_s
        passed &= ratio >= MIN_SPEED
        figures = (f"{network.parameters + network.statistics:,}", f"{torch_s * 1e3:.0f} ms", f"{own_s * 1e3:.0f} ms")
        table.add_row(name, *figures, f"{ratio:.2f}", style=None if ratio >= MIN_SPEED else "bold red")
    Console(width=110).print(table)
    sys.exit(0 if passed else 1)


def _initialize_by_torch(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()


def _time_in_turn(first: Callable[[], object], second: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Return the median seconds of two functions, which are called alternately."""
    seconds: list[list[float]] = [[], []]
    for _ in range(repeat + 1):
        for index, action in enumerate((first, second)):
            start = time.perf_counter()
            action()
            seconds[index].append(time.perf_counter() - start)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])  # the first call fills caches


if __name__ == "__main__":
    main()
