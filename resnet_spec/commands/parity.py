"""``parity``: whether backends compute the same network."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from resnet_spec.backend import BackendError, backends
from resnet_spec.commands.options import (
    DIFFERS,
    json_option,
    loaded,
    numbers,
    progress,
    set_option,
    settings_of,
    show,
    show_json,
)
from resnet_spec.load import load
from resnet_spec.network import Network
from resnet_spec.source import SpecError

if TYPE_CHECKING:
    from resnet_spec.parity.pool import Elsewhere


@click.command()
@click.argument("specs", nargs=-1, required=True)
@click.option("--backend", "names", metavar="NAME,...", help="Backends to compare. [default: those installed]")
@click.option("--level", type=click.Choice(["forward", "gradient", "training"]), default="training", show_default=True)
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float64", "float32"]), help="[default: both]")
@click.option(
    "--size", metavar="HxW", help="The images' size. [default: 72x56, or the spec's own where that is smaller]"
)
@set_option
@json_option
def parity(
    specs: tuple[str, ...],
    names: str | None,
    level: str,
    dtypes: tuple[str, ...],
    size: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare what backends compute with each other and with the reference in NumPy: every part's output, gradients, training."""
    from resnet_spec.parity import present
    from resnet_spec.parity.case import Case
    from resnet_spec.parity.examine import REFERENCE, examine
    from resnet_spec.parity.pool import Elsewhere

    networks = [_comparable(spec, settings, size) for spec in specs]
    pool = {name: Elsewhere(name) for name in dict.fromkeys([REFERENCE, *(names.split(",") if names else backends())])}
    findings = []
    try:
        wanted = _ready(pool, required=names is not None)
        for network in networks:
            for dtype in dtypes or ("float64", "float32"):
                case = Case(network, dtype, level)  # type: ignore[arg-type]  # click has checked both
                with progress(f"{network.name} in {dtype}"):
                    findings += examine(case, pool[REFERENCE], [pool[name] for name in wanted])
    finally:
        for subject in pool.values():
            subject.close()
    if as_json:
        show_json([present.data(finding) for finding in findings])
    else:
        show(present.table(findings))
    if any(finding.verdict in ("differs", "failed") for finding in findings):
        sys.exit(DIFFERS)


def _ready(pool: dict[str, Elsewhere], required: bool) -> list[str]:
    """The backends whose frameworks are here, started side by side. Raises BackendError for one that is required and is not."""
    found = []
    with ThreadPoolExecutor(len(pool)) as threads:
        for name, started in [(name, threads.submit(subject.ready)) for name, subject in pool.items()]:
            try:
                started.result()
            except BackendError:
                if required:
                    raise
            else:
                found.append(name)
    return found[1:] or found  # the reference only where there is no other


def _comparable(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    """A network at the size to compare at: as asked, else small, else its own if it can't be that small."""
    from resnet_spec.parity.case import SIZE

    network = loaded(spec, settings)
    channels, *own = network.input
    height, width = numbers(size, "HxW", 2) if size else map(min, SIZE, own)
    try:
        return load(spec, input=(channels, height, width), **settings_of(settings))
    except SpecError:
        if size:
            raise
        return network
