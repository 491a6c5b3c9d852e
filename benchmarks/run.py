"""Every benchmark, each framework in a process of its own, into results.json; and the tables printed from there.

python benchmarks/run.py                          everything: hours on two cores
python benchmarks/run.py -f torch -m resnet18     a part; what the file has of others stays
python benchmarks/run.py --table readme           no measurement: the table in the README, from the file
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
from tables import Record, Results, results_table, short_table

FOLDER = Path(__file__).parent
FILE = FOLDER / "results.json"
FRAMEWORKS = ("core", "torch", "paddle", "flax")
MODELS = ("resnet18", "resnet50", "resnext50_32x4d", "resnet152")
PACKAGES = ("torch", "torchvision", "timm", "paddlepaddle", "jax", "flax", "numpy", "torchinfo")


@dataclass(frozen=True, slots=True)
class Job:
    """A script to run, and the network that it is about."""

    script: str
    model: str


@click.command(help=__doc__)
@click.option("-f", "--framework", "frameworks", multiple=True, type=click.Choice(FRAMEWORKS), default=FRAMEWORKS)
@click.option("-m", "--model", "models", multiple=True, type=click.Choice(MODELS), default=MODELS)
@click.option("-b", "--batch", "batches", multiple=True, type=int, default=(1, 8), show_default=True)
@click.option(
    "--rounds", default=ROUNDS, show_default=True, help="How often each is timed, after two times that are not."
)
@click.option("--compile/--no-compile", default=True, help="Whether compilers that take minutes are measured.")
@click.option(
    "--results", default=FILE, type=click.Path(path_type=Path), help="The file; benchmarks/results.json if not told."
)
@click.option("--table", type=click.Choice(["readme", "all"]), help="Measure nothing, and print a table of the file.")
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
        for job in jobs(frameworks, models):
            click.echo(f"== {job.script} {job.model}", err=True)
            keep(results, list(measured(job, options)))
    found = Results.read(results)
    click.echo(short_table(found) if table == "readme" else results_table(found))


def jobs(frameworks: Sequence[str], models: Sequence[str]) -> Iterator[Job]:
    for framework in frameworks:
        if framework == "core":
            yield Job("core.py", "resnet152")
            yield Job("core_against_torch.py", "resnet50")
        else:
            yield from (Job(f"against_{framework}.py", model) for model in models)
            yield Job("running_variance.py", framework)


def measured(job: Job, options: Sequence[str]) -> Iterator[Record]:
    """What a process prints, line by line. Raises ClickException if it fails."""
    command = [sys.executable, str(FOLDER / job.script), job.model, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # frameworks print too
                click.echo(line.rstrip(), err=True)
                yield json.loads(line)
    if process.returncode:
        raise click.ClickException(f"{job.script} {job.model} failed with status {process.returncode}")


def keep(path: Path, records: Sequence[Record]) -> None:
    """Put records in the file in place of those of the same comparisons. Another machine or version starts it anew."""
    before, machine = Results.read(path), here()
    kept = before.records if before.machine == machine else ()
    merged = {key(record): record for record in (*kept, *records)}
    lines = ",\n    ".join(json.dumps(record, ensure_ascii=False) for record in merged.values())
    text = f'{{\n  "machine": {json.dumps(machine)},\n  "records": [\n    {lines}\n  ]\n}}\n'
    path.write_text(text, encoding="utf-8")


def key(record: Record) -> tuple[object, ...]:
    return tuple(record.get(name) for name in ("framework", "model", "batch", "what", "peer"))


def here() -> dict[str, str | int | bool]:
    """What figures depend on."""
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
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
