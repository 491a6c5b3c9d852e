"""Run benchmarks, each framework in a separate process, write results.json, and print tables of the results.

python benchmarks/run.py                          measure everything, which takes hours on two cores
python benchmarks/run.py -f torch -m resnet18     measure a part, and keep the other results in the file
python benchmarks/run.py --table readme           print the table of the README from the file, without measuring
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
from measure import ROUNDS
from tables import Record, Results, render_results, render_short_table

FOLDER = Path(__file__).parent
FILE = FOLDER / "results.json"
FRAMEWORKS = ("core", "torch", "paddle", "flax")
MODELS = ("resnet18", "resnet50", "resnext50_32x4d", "resnet152")
PACKAGES = ("torch", "torchvision", "timm", "paddlepaddle", "jax", "flax", "numpy", "torchinfo")


@dataclass(frozen=True, slots=True)
class Job:
    """A script to run, and its argument: a network, or a framework."""

    script: str
    model: str


@click.command(help=__doc__)
@click.option("-f", "--framework", "frameworks", multiple=True, type=click.Choice(FRAMEWORKS), default=FRAMEWORKS)
@click.option("-m", "--model", "models", multiple=True, type=click.Choice(MODELS), default=MODELS)
@click.option("-b", "--batch", "batches", multiple=True, type=int, default=(1, 8), show_default=True)
@click.option(
    "--rounds", default=ROUNDS, show_default=True, help="Rounds of each measurement, after two that are not counted."
)
@click.option("--compile/--no-compile", default=True, help="Whether to measure compilers, which take minutes.")
@click.option(
    "--results",
    default=FILE,
    type=click.Path(path_type=Path),
    help="File with the results. [default: benchmarks/results.json]",
)
@click.option(
    "--table", type=click.Choice(["readme", "all"]), help="Print a table of the results in the file, without measuring."
)
def main(
    frameworks: Sequence[str],
    models: Sequence[str],
    batches: Sequence[int],
    rounds: int,
    compile: bool,
    results: Path,
    table: str | None,
) -> None:
    if table is None:
        options = [f"--rounds={rounds}", *(f"--batch={batch}" for batch in batches), *["--compile"] * compile]
        for job in list_jobs(frameworks, models):
            click.echo(f"== {job.script} {job.model}", err=True)
            store(results, list(run_job(job, options)))
    stored = Results.read(results)
    click.echo(render_short_table(stored) if table == "readme" else render_results(stored))


def list_jobs(frameworks: Sequence[str], models: Sequence[str]) -> Iterator[Job]:
    for framework in frameworks:
        if framework == "core":
            yield Job("core.py", "resnet152")
            yield Job("core_against_torch.py", "resnet50")
        else:
            yield from (Job(f"against_{framework}.py", model) for model in models)
            yield Job("running_variance.py", framework)


def run_job(job: Job, options: Sequence[str]) -> Iterator[Record]:
    """Run a job, and yield the records that it prints. Raises ClickException if it fails."""
    command = [sys.executable, str(FOLDER / job.script), job.model, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # frameworks print other lines
                click.echo(line.rstrip(), err=True)
                yield json.loads(line)
    if process.returncode:
        raise click.ClickException(f"{job.script} {job.model} failed with status {process.returncode}")


def store(path: Path, records: Sequence[Record]) -> None:
    """Write records to the file, and replace those of the same cases.

    Results of another machine, or of other versions of the packages, are removed.
    """
    before, machine = Results.read(path), describe_machine()
    kept = before.records if before.machine == machine else ()
    merged = {record_key(record): record for record in (*kept, *records)}
    lines = ",\n    ".join(json.dumps(record, ensure_ascii=False) for record in merged.values())
    text = f'{{\n  "machine": {json.dumps(machine)},\n  "records": [\n    {lines}\n  ]\n}}\n'
    path.write_text(text, encoding="utf-8")


def record_key(record: Record) -> tuple[object, ...]:
    return tuple(record.get(name) for name in ("framework", "model", "batch", "what", "peer"))


def describe_machine() -> dict[str, str | int | bool]:
    """Return the properties of the machine and the versions on which results depend."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    processor = next(
        line.partition(":")[2].strip() for line in information.splitlines() if line.startswith("model name")
    )
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "AMX": " amx_tile" in information,
        "AVX512-BF16": " avx512_bf16" in information,
        "Python": platform.python_version(),
        **{name: _find_version(name) for name in PACKAGES},
    }


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
