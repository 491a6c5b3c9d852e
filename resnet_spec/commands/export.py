"""The ``export`` command: write a network as an ONNX model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from resnet_spec.api import Mode, build
from resnet_spec.backend import load_backend
from resnet_spec.commands.options import (
    all_option,
    input_option,
    json_option,
    load_network,
    print_json,
    set_option,
    show_progress,
    under_option,
    until_option,
)


@click.command()
@click.argument("spec")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write. [default: NAME.onnx, with the network's name]",
)
@click.option("--weights", metavar="FILE", help="A checkpoint in any format. [default: initial weights]")
@under_option
@until_option
@click.option("--seed", default=0, show_default=True, help="Seed of the initial weights.")
@click.option("--opset", default=17, show_default=True, help="Version of the ONNX operator set.")
@click.option(
    "--batch", default="1", show_default=True, metavar="N|dynamic", help="Number of images in a batch, or dynamic."
)
@click.option("--fold", is_flag=True, help="Fold norms into convolutions, for fewer nodes and the same outputs.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float64"]))
@input_option
@set_option
@all_option
@json_option
def export(
    spec: str,
    output: Path | None,
    weights: str | None,
    under: str | None,
    until: str | None,
    seed: int,
    opset: int,
    batch: str,
    fold: bool,
    dtype: str,
    size: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a network as an ONNX model in evaluation mode, with the names of the spec.

    No framework needs to be installed.
    """
    network = load_network(spec, settings, size, until=until)
    path = output or Path(re.sub(r"[^\w.-]+", "-", network.name) + ".onnx")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder named {str(path.parent)!r}")
    backend: Any = load_backend("onnx")
    with show_progress(f"writing {path}"):
        mode: Mode = "inference" if fold else "training"
        model = build(network, backend="onnx", weights=weights, under=under, seed=seed, dtype=dtype, mode=mode)
        files = backend.export(model, path, opset=opset, batch=_parse_batch(batch))
    sizes = {str(file): file.stat().st_size for file in files}
    if as_json:
        print_json({"network": network.name, "files": [{"file": file, "bytes": size} for file, size in sizes.items()]})
        return
    for file, size in sizes.items():
        click.echo(f"{file}: {size:,} bytes")


def _parse_batch(text: str) -> int | str:
    if text == "dynamic":
        return "batch"
    if not text.isdecimal() or int(text) < 1:
        raise click.UsageError(f"--batch takes a number of images or dynamic, not {text!r}")
    return int(text)
