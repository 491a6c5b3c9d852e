"""``vectors``: write test vectors of a network, and compare the node dumps of another runtime with them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    EXIT_UNKNOWN,
    json_option,
    load_network,
    parse_settings,
    print_fitting,
    print_json,
    set_option,
    show_progress,
)
from resnet_spec.network.network import Network


class _Group(click.Group):
    """A group whose command ``make`` need not be written: ``vectors resnet18`` is ``vectors make resnet18``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def vectors() -> None:
    """Write small models with references of every node, for runtimes and hardware; compare their dumps.

    The command make need not be written.
    """


@vectors.command("make")
@click.argument("spec")
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder to write, which must not exist. [default: NAME-vectors]",
)
@click.option(
    "--narrow",
    type=click.IntRange(1),
    metavar="N",
    help="Make a copy of the same topology whose widest operation has at most N channels, and the others at least 2.",
)
@click.option(
    "--level",
    type=click.Choice(["forward", "gradient", "training"]),
    default="forward",
    show_default=True,
    help="What to write: forward, every node; gradient, also gradients; training, also one training step.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of weights, images and labels.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Number of images.")
@click.option("--opset", type=int, help="Version of the ONNX operator set. [default: 17]")
@click.option("--size", metavar="HxW", help="Size of the images. [default: 32x24, or the next that fits]")
@click.option("--backend", "gradients", metavar="NAME", help="Backend for gradients. [default: the first installed]")
@set_option
@json_option
def make(
    spec: str,
    output: Path | None,
    narrow: int | None,
    level: str,
    seed: int,
    batch: int,
    opset: int | None,
    size: str | None,
    gradients: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a folder of test vectors: an ONNX model with an input and output, and each node in float64 and float32.

    The arrays depend on the seed alone and have the same bits on every machine, except for gradients.
    """
    from resnet_spec.parity.saved_records import file_stem
    from resnet_spec.transforms.width_reduction import reduce_width
    from resnet_spec.vectors.write import Request, write_vectors

    os.environ.setdefault("JAX_ENABLE_X64", "1")  # before JAX is imported: gradients are computed in float64
    network = _load(spec, settings, size)
    if narrow is not None:
        network = reduce_width(network, narrow)
    origin = {"spec": spec, "settings": [*settings], "narrow": narrow}
    request = Request(network, level, seed, batch, opset, gradients, origin)  # type: ignore[arg-type]  # click checked it
    folder = output or Path(f"{file_stem(network.name)}-vectors")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"no folder named {str(folder.parent)!r}")
    with show_progress(f"writing {folder}"):
        index = write_vectors(request, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size_in_bytes = sum(path.stat().st_size for path in files)
    counts = {"arrays": len(index.entries), "files": len(files), "bytes": size_in_bytes}
    if as_json:
        print_json({"network": network.name, "folder": str(folder), **counts})
    else:
        click.echo(f"{folder}: {len(index.entries)} arrays, {size_in_bytes:,} bytes")


def _load(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    from resnet_spec.vectors.write import load_small

    if size is None:
        return load_small(spec, **parse_settings(settings))
    return load_network(spec, settings, extent=size)


@vectors.command("compare")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("dumps", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="The largest relative error from float64 that passes, for dumps of any type. [default: the vectors']",
)
@json_option
def compare(folder: Path, dumps: Path, tolerance: float | None, as_json: bool) -> None:
    """Compare dumps of another runtime's nodes, as files NAME.npy in a folder, with test vectors.

    The first node that differs is named, and the exit status is 1. It is 3 if no node differs, but not all were dumped.
    """
    from resnet_spec.vectors.compare import OPTIONAL_COLUMNS, compare_dumps, find_first_difference, tabulate, to_json

    comparisons = compare_dumps(folder, dumps, tolerance)
    first = find_first_difference(comparisons)
    unknown = [comparison for comparison in comparisons if comparison.verdict in ("missing", "ill-conditioned")]
    if as_json:
        print_json([to_json(comparison) for comparison in comparisons])
    else:
        print_fitting(tabulate(comparisons), OPTIONAL_COLUMNS)
        if unknown:
            click.echo(f"{len(unknown)} of {len(comparisons)} arrays were not dumped, or can be of no use")
        click.echo(f"the first that differs: {first.describe()}" if first else "no array differs")
    if first is not None:
        sys.exit(EXIT_DIFFERENT)
    if unknown:
        sys.exit(EXIT_UNKNOWN)
