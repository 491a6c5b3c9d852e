"""The ``doctor`` command: print versions, backends and devices, and whether each backend computes what it should."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from math import isfinite
from typing import TYPE_CHECKING

import click

from resnet_spec.backend import (
    OUTPUT,
    REFERENCE,
    BackendError,
    load_backend,
    registered_backends,
    require_backend,
    required_packages,
)
from resnet_spec.commands.options import EXIT_DIFFERENT, json_option, print_fitting, print_json
from resnet_spec.diagnostics.problems import one_line
from resnet_spec.library.bundled import directory, network_files

if TYPE_CHECKING:
    from rich.table import Table

SECONDS = 180.0
"""How long a backend may take to be imported, to build a network and to run it."""

LARGEST_ERROR = 1e-4
"""The largest error of a backend that works, relative to the largest output: rounding in float32 stays far below it."""

TRIAL = """
name: trial
input: [3, 8, 8]
stem: {conv: {op: conv, out: 4, kernel: 3, padding: 1}, norm: {op: batch_norm}, act: {op: relu}}
head: {pool: {op: global_avg_pool}, fc: {op: linear, out: 5}}
"""
"""The network that every backend builds and runs: what all networks are made of, and compiled in seconds."""


@dataclass(frozen=True)
class Finding:
    """What was found out about a backend.

    Attributes:
        backend: Its name.
        status: "works", "not installed", "fails" or "computes something else".
        packages: The version of each package that it needs, or None for one that is not installed.
        devices: What its framework can compute on, or empty if the backend does not say.
        message: What went wrong, and what to do about it.
    """

    backend: str
    status: str
    packages: dict[str, str | None]
    devices: list[str] = field(default_factory=list)
    message: str = ""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Print versions, backends and devices, and try each backend: what to add to a report of a bug.

    Each backend is imported in a process of its own, builds a small network, and runs it. The exit status is 1 if one
    that is installed does not compute what the reference does.
    """
    machine = describe_machine()
    findings = [examine(name) for name in registered_backends()]
    if as_json:
        print_json({**machine, "backends": [asdict(finding) for finding in findings]})
    else:
        for name, value in machine.items():
            click.echo(f"{name.replace('_', ' ')}: {value}")
        click.echo()
        print_fitting(_render_table(findings), ("devices",))
        for finding in findings:
            if finding.message:
                click.echo(f"{finding.backend}: {finding.message}")
    if any(finding.status not in ("works", "not installed") for finding in findings):
        sys.exit(EXIT_DIFFERENT)


def describe_machine() -> dict[str, str]:
    """Return what a report of a bug should say about the machine and the installation."""
    memory = "unknown"
    if hasattr(os, "sysconf"):
        memory = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    libraries = [re.split(r"[^\w.-]", line)[0] for line in requires("resnet-spec") or () if "extra ==" not in line]
    return {
        "resnet-spec": version("resnet-spec"),
        "libraries": ", ".join(f"{library} {_version(library) or 'missing'}" for library in libraries),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": str(os.cpu_count() or "unknown"),
        "memory": memory,
        "bundled_networks": f"{len(network_files())} in {directory()}",
    }


def examine(name: str) -> Finding:
    """Try a backend in a process of its own, in which it may crash or hang."""
    packages = {package: _version(package) for package in required_packages(name)}
    try:
        require_backend(name)
    except BackendError as error:
        return Finding(name, "not installed", packages, message=str(error))
    command = [sys.executable, "-c", f"from resnet_spec.commands.doctor import try_backend; try_backend({name!r})"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Finding(name, "fails", packages, message=f"no answer within {SECONDS:.0f} s")
    if tried.returncode:
        last = [line for line in tried.stderr.splitlines() if line.strip()][-1:]
        return Finding(name, "fails", packages, message=one_line(last[0]) if last else _describe_end(tried.returncode))
    answer = json.loads(tried.stdout.splitlines()[-1])  # a framework may print something first
    distance: float | None = answer["error"]
    if distance is not None and distance <= LARGEST_ERROR:
        return Finding(name, "works", packages, answer["devices"])
    message = "its output is not finite"
    if distance is not None:
        message = f"its output is {distance:.1e} from the reference's, of which rounding explains {LARGEST_ERROR:g}"
    return Finding(name, "computes something else", packages, answer["devices"], message)


def try_backend(name: str) -> None:
    """Build and run a network in a backend; print JSON: its devices, and its error relative to the reference."""
    import numpy

    from resnet_spec.api import build
    from resnet_spec.library.load import loads

    network = loads(TRIAL)
    images = numpy.random.default_rng(0).standard_normal((2, *network.input)).astype("float32")
    output, expected = (
        load_backend(backend).run(build(network, backend=backend), images)[OUTPUT] for backend in (name, REFERENCE)
    )
    error = float(abs(output - expected).max() / abs(expected).max())
    devices: list[str] = getattr(load_backend(name), "devices", list)()
    print(json.dumps({"devices": devices, "error": error if isfinite(error) else None}))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _describe_end(status: int) -> str:
    return f"its process ended by signal {-status}" if status < 0 else f"its process ended with status {status}"


def _render_table(findings: list[Finding]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in ("backend", "status", "packages", "devices"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        packages = [f"{name} {number or 'missing'}" for name, number in finding.packages.items()]
        table.add_row(finding.backend, finding.status, ", ".join(packages), ", ".join(finding.devices))
    return table
