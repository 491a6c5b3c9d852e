"""How fast initial weights are drawn, against PyTorch's own initialisation of the same network: ``python benchmarks/initialisation.py``.

PyTorch's is what torchvision does to a model whose memory is there: He normal for convolutions, ``reset_parameters`` for the rest. Both
have the same cores; figures are ratios of medians within one run, and the two take turns.
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

SLOWEST = 1.0  # of PyTorch's speed


def main() -> None:
    """Print a line for each network; the exit status says whether drawing is at least as fast."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("networks", nargs="*", default=["resnet18", "resnet50", "resnet152", "wide_resnet101_2"])
    options.add_argument("--repeat", type=int, default=7)
    asked = options.parse_args()
    table = Table(title=f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in PyTorch")
    for heading in ("network", "weights", "PyTorch", "drawn", "speed / PyTorch's"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    passed = True
    for name in asked.networks:
        network = load(name)
        model = build(network, backend="torch")
        torch_s, drawn_s = _in_turns(partial(_initialise, model), partial(initialize, network), asked.repeat)
        ratio = torch_s / drawn_s
        passed &= ratio >= SLOWEST
        figures = (f"{network.parameters + network.statistics:,}", f"{torch_s * 1e3:.0f} ms", f"{drawn_s * 1e3:.0f} ms")
        table.add_row(name, *figures, f"{ratio:.2f}", style=None if ratio >= SLOWEST else "bold red")
    Console(width=110).print(table)
    sys.exit(0 if passed else 1)


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()


def _in_turns(one: Callable[[], object], other: Callable[[], object], repeat: int) -> tuple[float, float]:
    seconds: list[list[float]] = [[], []]
    for _ in range(repeat + 1):
        for index, action in enumerate((one, other)):
            start = time.perf_counter()
            action()
            seconds[index].append(time.perf_counter() - start)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])  # the first warms caches


if __name__ == "__main__":
    main()
