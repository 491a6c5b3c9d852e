"""Measure on a GPU in at most five minutes, PyTorch and Flax each in a process of its own, and print the results.

python benchmarks/gpu.py                                        measure on the GPU
python benchmarks/gpu.py --device cpu --tiny --results FILE     rehearse where there is none
python benchmarks/gpu.py --table                                print the table in the file, without measuring
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from tables import Record, Results, render_gpu_results

FOLDER = Path(__file__).parent
FILE = FOLDER / "gpu.json"
SCRIPTS = {"torch": "gpu_torch.py", "flax": "gpu_flax.py"}


@click.command(help=__doc__)
@click.option("-f", "--framework", "frameworks", multiple=True, type=click.Choice(list(SCRIPTS)), default=list(SCRIPTS))
@click.option("--device", default="cuda", show_default=True)
@click.option(
    "--seconds", default=290, show_default=True, help="Time for everything; rows that do not fit are left out."
)
@click.option("--tiny", is_flag=True, help="Small networks, images and batches, to try the script.")
@click.option(
    "--results", default=FILE, type=click.Path(path_type=Path), help="The file. [default: benchmarks/gpu.json]"
)
@click.option("--table", is_flag=True, help="Print the table in the file, without measuring.")
def main(frameworks: Sequence[str], device: str, seconds: int, tiny: bool, results: Path, table: bool) -> None:
    if not table:
        if results == FILE and (tiny or device == "cpu"):
            raise click.UsageError("a rehearsal is no result: name another file by --results")
        end, records = time.monotonic() + seconds, list[Record]()
        for number, framework in enumerate(frameworks):
            left = (end - time.monotonic()) / (len(frameworks) - number)
            options = [f"--device={device}", f"--seconds={left:.0f}", *["--tiny"] * tiny]
            records += _run_script(SCRIPTS[framework], options, left + 20)
        _store(results, records)
    click.echo(render_gpu_results(Results.read(results)))


def _run_script(script: str, options: Iterable[str], limit: float) -> Iterator[Record]:
    """Run a script, and yield the records that it prints, also if it fails or takes too long after some."""
    command = [sys.executable, str(FOLDER / script), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        end = time.monotonic() + limit
        for line in process.stdout:
            if line.startswith("{"):  # frameworks print other lines
                click.echo(line.rstrip(), err=True)
                yield json.loads(line)
            if time.monotonic() > end:
                process.kill()
    if process.returncode:
        click.echo(f"{script} ended with status {process.returncode}; rows may be missing", err=True)


def _store(path: Path, records: Sequence[Record]) -> None:
    """Write records and the machine, which the scripts print as records without a framework."""
    machine = {key: value for record in records if "machine" in record for key, value in record["machine"].items()}
    lines = ",\n    ".join(json.dumps(record, ensure_ascii=False) for record in records if "machine" not in record)
    path.write_text(
        f'{{\n  "machine": {json.dumps(machine)},\n  "records": [\n    {lines}\n  ]\n}}\n', encoding="utf-8"
    )


if __name__ == "__main__":
    main()
