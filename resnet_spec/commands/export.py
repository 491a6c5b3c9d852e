"""The ``export`` command: write a network as a program for other runtimes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_spec.api import build, dump
from resnet_spec.backend import Backend, ExportOptions, load_exporter
from resnet_spec.commands.options import (
    all_option,
    json_option,
    load_network,
    print_fitting,
    print_json,
    set_option,
    show_progress,
    under_option,
    until_option,
)
from resnet_spec.network.network import Network

if TYPE_CHECKING:
    from resnet_spec.parity.quantization import QuantizationLoss
    from resnet_spec.weights.canonical import Array

BACKENDS = {"onnx": "onnx", "stablehlo": "flax", "pt2": "torch"}
"""The backend that writes each format unless ``--backend`` names another."""

SUFFIXES = {".onnx": "onnx", ".stablehlo": "stablehlo", ".mlir": "stablehlo", ".pt2": "pt2"}
"""The formats that follow from a file's suffix."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


@click.command()
@click.argument("spec")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write. [default: NAME.onnx, with the network's name and the format's suffix]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([*BACKENDS]),
    help="ONNX, StableHLO from the Flax model, or a program of torch.export. [default: the suffix's, or onnx]",
)
@click.option("--backend", "name", metavar="NAME", help="Backend that writes the format. [default: the usual one]")
@click.option("--weights", metavar="FILE", help="A checkpoint in any format. [default: initial weights]")
@under_option
@until_option
@click.option("--seed", default=0, show_default=True, help="Seed of the initial weights.")
@click.option("--opset", type=int, help="Version of the ONNX operator set. [default: 17]")
@click.option(
    "--batch", default="1", show_default=True, metavar="N|dynamic", help="Number of images in a batch, or dynamic."
)
@click.option("--fold", is_flag=True, help="Fold norms into convolutions, for fewer nodes and the same outputs.")
@click.option("--training-step", is_flag=True, help="Write a step of stochastic gradient descent (StableHLO).")
@click.option(
    "--int8",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Write 8-bit integers (ONNX), with the ranges that maps have on the images in a folder, and print what each "
    "part loses against float64.",
)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float64"]))
@click.option(
    "--input",
    "size",
    metavar="CxHxW",
    help="Size of the image, as in 3x224x224, or 3xHxW for any height and width. [default: the spec's]",
)
@set_option
@all_option
@json_option
def export(
    spec: str,
    output: Path | None,
    form: str | None,
    name: str | None,
    weights: str | None,
    under: str | None,
    until: str | None,
    seed: int,
    opset: int | None,
    batch: str,
    fold: bool,
    training_step: bool,
    int8: Path | None,
    dtype: str,
    size: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a network as a program that other runtimes load: ONNX, StableHLO or torch.export's.

    Weights have the names of the spec. The program evaluates, unless a training step is asked for. ONNX files need no
    framework.
    """
    network, free_size = _load(spec, settings, size, until)
    form = form or SUFFIXES.get(output.suffix if output else "", "onnx")
    images = _read_images(int8, network) if int8 else ()
    options = ExportOptions(form, _parse_batch(batch), free_size, training_step, opset, images)
    if training_step and fold:
        raise click.UsageError("a training step needs the norms; omit --fold")
    if int8 and dtype != "float32":
        raise click.UsageError("--int8 quantises a network in float32; omit --dtype")
    if int8 and options.batch not in (1, None):
        raise click.UsageError("--int8 reads images one by one; --batch can be 1 or dynamic")
    backend, file_format = load_exporter(name or BACKENDS[form], options)
    path = output or Path(re.sub(r"[^\w.-]+", "-", network.name) + file_format.suffix)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder named {str(path.parent)!r}")
    with show_progress(f"writing {path}"):
        model: Any = build(
            network, backend=name or BACKENDS[form], weights=weights, under=under, seed=seed, dtype=dtype
        )
        if fold or int8:
            model = _fold(model, backend, dtype)
        files = backend.export(model, path, options)
        loss = _measure_loss(model, backend, path, images) if int8 else None
    _print_results(network, files, loss, as_json)


def _load(spec: str, settings: tuple[str, ...], size: str | None, until: str | None) -> tuple[Network, bool]:
    """Load a network; return it, and whether it is to take images of any height and width."""
    free = re.fullmatch(r"([0-9]+)xHxW", size or "")
    if free is None:
        return load_network(spec, settings, size, until=until), False
    network = load_network(spec, settings, until=until)
    if network.input[0] != int(free[1]):
        network = load_network(spec, settings, "x".join([free[1], *map(str, network.input[1:])]), until=until)
    return network, True


def _parse_batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise click.UsageError(f"--batch takes a number of images or dynamic, not {text!r}")
    return int(text)


def _read_images(folder: Path, network: Network) -> tuple[Array, ...]:
    """Read the images in a folder, in the order of their names, as arrays (1, channels, height, width)."""
    from resnet_spec.preparation.preparation import preparation_of_network

    if not folder.is_dir():
        raise FileNotFoundError(f"no folder named {str(folder)!r}")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"no images in {str(folder)!r}; put some there, such as 100 that the network will see")
    prepare = preparation_of_network(network)
    return tuple(prepare.prepare(file)[0][None] for file in files)


def _fold(model: Any, backend: Backend, dtype: str) -> Any:
    from resnet_spec.transforms.norm_folding import fold_norms

    return backend.build(*fold_norms(model.network, dump(model)), dtype)


def _measure_loss(model: Any, backend: Backend, path: Path, images: Sequence[Array]) -> QuantizationLoss:
    from resnet_spec.parity.quantization import measure_loss

    return measure_loss(model.network, dump(model), images, lambda x, paths: backend.run_file(path, x, paths))


def _print_results(network: Network, files: Sequence[Path], loss: QuantizationLoss | None, as_json: bool) -> None:
    sizes = {str(file): file.stat().st_size for file in files}
    if as_json:
        data: dict[str, Any] = {
            "network": network.name,
            "files": [{"file": file, "bytes": size} for file, size in sizes.items()],
        }
        print_json(data if loss is None else {**data, "int8": loss.to_json()})
        return
    if loss is not None:
        print_fitting(loss.to_table())
        click.echo(loss.describe())
    for file, size in sizes.items():
        click.echo(f"{file}: {size:,} bytes")
