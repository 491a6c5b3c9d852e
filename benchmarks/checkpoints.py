"""Measure the speed of converting a large checkpoint, relative to copying it, and the memory.

Each conversion runs in a separate process, between two copies of the same file. Results are ratios within one run.
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

MIN_SPEED = 1 / 3  # relative to copying
MAX_MEMORY = 1.5  # relative to the size of the file, including the interpreter and its libraries
SUFFIXES = {"safetensors": ".safetensors", "torch": ".pth", "paddle": ".pdparams", "npz": ".npz", "orbax": ""}

CONVERT = """
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
    """Print a table with a row for each conversion. The exit status is 0 if all are within the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="wide_resnet101_2", help="in float64 its checkpoint is a gigabyte")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.network} in {arguments.dtype}")
    for heading in ("from", "to", "file", "copied in", "converted in", "speed / copying", "memory / file", "within"):
        table.add_column(heading, justify="right" if heading not in ("from", "to") else "left")
    passed = True
    with tempfile.TemporaryDirectory() as name, Console(stderr=True).status("") as status:
        folder = Path(name)
        source = folder / "w.safetensors"
        _write_checkpoint(arguments.network, arguments.dtype, source)
        pairs = [("safetensors", kind) for kind in SUFFIXES] + [
            (kind, "safetensors") for kind in SUFFIXES if kind != "safetensors"
        ]
        for source_kind, target_kind in pairs:
            status.update(f"{source_kind} to {target_kind}")
            cells, within = _measure(folder, source, source_kind, target_kind, arguments.repeat)
            table.add_row(source_kind, target_kind, *cells, style=None if within else "bold red")
            passed &= within
    Console(width=130).print(table)
    sys.exit(0 if passed else 1)


def _write_checkpoint(name: str, dtype: str, path: Path) -> None:
    """Write a checkpoint of a network with initial weights."""
    network = load(name)
    weights = initialize(network)

    def read(name: str) -> Array:
        return weights[name].astype(dtype)

    tensors = {name: Tensor(array.shape, FLOATS[dtype], partial(read, name)) for name, array in weights.items()}
    registry.write(path, "safetensors", tensors, make_metadata(network))


def _measure(folder: Path, canonical: Path, source_kind: str, target_kind: str, repeat: int) -> tuple[list[str], bool]:
    """Return the cells of a row, and whether they are within the limits."""
    source = canonical if source_kind == "safetensors" else folder / f"source{SUFFIXES[source_kind]}"
    if source_kind != "safetensors":
        _convert(canonical, source)
    size = canonical.stat().st_size
    copies, conversions, memory = [], [], 0.0
    for _ in range(repeat):
        copies.append(_copy(canonical, folder / "copy"))
        seconds, peak = _convert(source, folder / f"target{SUFFIXES[target_kind]}")
        conversions.append(seconds)
        memory = max(memory, peak)
        copies.append(_copy(canonical, folder / "copy"))
        _remove(folder / f"target{SUFFIXES[target_kind]}")
    if source_kind != "safetensors":
        _remove(source)
    copy, conversion = statistics.median(copies), statistics.median(conversions)
    speed, share = copy / conversion, memory / size
    within = speed >= MIN_SPEED and share <= MAX_MEMORY
    figures = [f"{size / 1e6:.0f} MB", f"{copy:.2f} s", f"{conversion:.2f} s", f"{speed:.2f}", f"{share:.2f}"]
    return [*figures, "yes" if within else "no"], within


def _copy(source: Path, target: Path) -> float:
    start = time.perf_counter()
    shutil.copyfile(source, target)
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def _convert(source: Path, target: Path) -> tuple[float, float]:
    """Convert in a new process; return the seconds and the peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, source, target], capture_output=True, text=True, check=True, env=os.environ
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
