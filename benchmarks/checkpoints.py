"""How fast a large checkpoint is converted, against copying it, and how much memory that takes: ``python benchmarks/checkpoints.py``.

Each conversion runs in a process of its own, between two copies of the same file; figures are ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resnet_spec import load
from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import FLOATS, Tensor
from resnet_spec.checkpoints.transfer.convert import make_metadata
from resnet_spec.weights.canonical import Array, initialize

SLOWEST = 1 / 3  # of the speed of copying
MOST_MEMORY = 1.5  # times the file, the interpreter and its libraries among it
ENDINGS = {"safetensors": ".safetensors", "torch": ".pth", "paddle": ".pdparams", "npz": ".npz", "orbax": ""}

CHILD = """
import json, sys, time
from pathlib import Path
from resnet_spec.checkpoints.transfer.convert import convert
start = time.perf_counter()
convert(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - start
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak.split()[1]) * 1024]))
"""


def main() -> None:
    """Print a line for each conversion; the exit status says whether all are within bounds."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--network", default="wide_resnet101_2", help="in float64 its checkpoint is a gigabyte")
    options.add_argument("--dtype", default="float64")
    options.add_argument("--repeat", type=int, default=3)
    asked = options.parse_args()
    table = Table(title=f"{asked.network} in {asked.dtype}")
    for heading in ("from", "to", "file", "copied in", "converted in", "speed / copying", "memory / file", "within"):
        table.add_column(heading, justify="right" if heading not in ("from", "to") else "left")
    passed = True
    with tempfile.TemporaryDirectory() as name, Console(stderr=True).status("") as status:
        folder = Path(name)
        source = folder / "w.safetensors"
        _make(asked.network, asked.dtype, source)
        pairs = [("safetensors", kind) for kind in ENDINGS] + [
            (kind, "safetensors") for kind in ENDINGS if kind != "safetensors"
        ]
        for one, other in pairs:
            status.update(f"{one} to {other}")
            line, within = _measured(folder, source, one, other, asked.repeat)
            table.add_row(one, other, *line, style=None if within else "bold red")
            passed &= within
    Console(width=130).print(table)
    sys.exit(0 if passed else 1)


def _make(name: str, dtype: str, path: Path) -> None:
    """A checkpoint of a network, drawn."""
    network = load(name)
    drawn = initialize(network)

    def read(name: str) -> Array:
        return drawn[name].astype(dtype)

    tensors = {name: Tensor(array.shape, FLOATS[dtype], partial(read, name)) for name, array in drawn.items()}
    registry.write(path, "safetensors", tensors, make_metadata(network))


def _measured(folder: Path, canonical: Path, one: str, other: str, repeat: int) -> tuple[list[str], bool]:
    source = canonical if one == "safetensors" else folder / f"source{ENDINGS[one]}"
    if one != "safetensors":
        _convert(canonical, source)
    size = canonical.stat().st_size
    copies, conversions, memory = [], [], 0.0
    for _ in range(repeat):
        copies.append(_copied(canonical, folder / "copy"))
        seconds, peak = _convert(source, folder / f"target{ENDINGS[other]}")
        conversions.append(seconds)
        memory = max(memory, peak)
        copies.append(_copied(canonical, folder / "copy"))
        _remove(folder / f"target{ENDINGS[other]}")
    if one != "safetensors":
        _remove(source)
    copy, conversion = statistics.median(copies), statistics.median(conversions)
    speed, share = copy / conversion, memory / size
    within = speed >= SLOWEST and share <= MOST_MEMORY
    figures = [f"{size / 1e6:.0f} MB", f"{copy:.2f} s", f"{conversion:.2f} s", f"{speed:.2f}", f"{share:.2f}"]
    return [*figures, "yes" if within else "no"], within


def _copied(source: Path, target: Path) -> float:
    start = time.perf_counter()
    shutil.copyfile(source, target)
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def _convert(source: Path, target: Path) -> tuple[float, float]:
    """Seconds, and the most memory that the process had."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, source, target], capture_output=True, text=True, check=True, env=os.environ
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
