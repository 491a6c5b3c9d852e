"""``export``: a network in inference form as an ONNX file, without a framework."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from resnet_spec.api import Mode, build
from resnet_spec.backend import load_backend
from resnet_spec.commands.options import input_option, loaded, progress, set_option


@click.command()
@click.argument("spec")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. [default: the network's name and .onnx]",
)
@click.option("--weights", metavar="FILE", help="A safetensors file. [default: drawn from --seed]")
@click.option("--seed", default=0, show_default=True, help="What initial weights are drawn from.")
@click.option("--opset", default=17, show_default=True, help="The version of ONNX's operators.")
@click.option("--batch", default="1", show_default=True, metavar="N|dynamic", help="How many images at a time.")
@click.option("--fold", is_flag=True, help="Fold norms into convolutions: fewer nodes, the same outputs.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float64"]))
@input_option
@set_option
def export(
    spec: str,
    output: Path | None,
    weights: str | None,
    seed: int,
    opset: int,
    batch: str,
    fold: bool,
    dtype: str,
    size: str | None,
    settings: tuple[str, ...],
) -> None:
    """Write a network as an ONNX model in inference form, its names the spec's; no framework is needed."""
    network = loaded(spec, settings, size)
    path = output or Path(re.sub(r"[^\w.-]+", "-", network.name) + ".onnx")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder named {str(path.parent)!r}")
    backend: Any = load_backend("onnx")
    with progress(f"writing {path}"):
        mode: Mode = "inference" if fold else "training"
        model = build(network, backend="onnx", weights=weights, seed=seed, dtype=dtype, mode=mode)
        files = backend.export(model, path, opset=opset, batch=_batch(batch))
    for file in files:
        click.echo(f"{file}: {file.stat().st_size:,} bytes")


def _batch(text: str) -> int | str:
    if text == "dynamic":
        return "batch"
    if not text.isdecimal() or int(text) < 1:
        raise click.UsageError(f"--batch takes a number of images, or dynamic, not {text!r}")
    return int(text)
