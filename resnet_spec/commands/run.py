"""The ``run`` command: predict the classes of pictures in several backends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_spec.api import build, run
from resnet_spec.backend import Model, choose_backends, installed_backends
from resnet_spec.commands.options import (
    all_option,
    device_option,
    json_option,
    load_network,
    parse_settings,
    print_fitting,
    print_json,
    set_option,
    under_option,
)
from resnet_spec.network.network import Network

if TYPE_CHECKING:
    from rich.table import Table

    from resnet_spec.library.published import PublishedWeights
    from resnet_spec.preparation.preparation import Preparation


@click.command("run")
@click.argument("spec")
@click.option(
    "--image",
    "paths",
    required=True,
    multiple=True,
    metavar="FILE|FOLDER",
    help="A picture in any format that Pillow reads, or a folder of them. Can be given several times.",
)
@click.option("--backend", "names", metavar="NAME,...", help="Backends to use. [default: the installed ones, or numpy]")
@click.option(
    "--weights",
    metavar="TAG|FILE",
    help="The tag of published weights, or default, or a checkpoint in any format. [default: initial weights]",
)
@under_option
@click.option("--seed", default=0, show_default=True, help="Seed of the initial weights.")
@device_option
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Number of classes to print.")
@click.option(
    "--labels",
    metavar="LIST|FILE",
    help="Names of the classes: imagenet-1k, cifar-10, cifar-100, or a text file with one a line. [default: the tag's]",
)
@click.option("--test-size", is_flag=True, help="Prepare pictures for the larger size of published weights.")
@set_option
@all_option
@json_option
def run_(
    spec: str,
    paths: tuple[str, ...],
    names: str | None,
    weights: str | None,
    under: str | None,
    seed: int,
    device: str | None,
    top: int,
    labels: str | None,
    test_size: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Predict the classes of pictures, and print the most likely ones, with a column for each backend.

    Pictures are prepared as the published weights need it, or else as the spec's preprocess says.
    """
    from resnet_spec.preparation.preparation import preparation_of_network, preparation_of_weights

    files = list_pictures(paths)
    network = load_network(spec, settings, None)
    published = find_weights(spec, network, weights)
    if published is not None and not published.classes:
        raise click.UsageError(f"the weights {published.key} have no classifier, so they predict no classes")
    prepare = preparation_of_weights(published, test_size=test_size) if published else preparation_of_network(network)
    if test_size and published is None:
        raise click.UsageError("--test-size is one of published weights; name them by --weights TAG")
    prepare.prepare(files[0])  # a mistake in the first picture is found before any model is built
    source, options = (network, {}) if spec == "-" else (spec, parse_settings(settings))
    models = {
        name: build(
            source, backend=name, weights=weights, under=under, seed=seed, dtype="float32", device=device, **options
        )
        for name in (choose_backends(names) if names is not None else installed_backends())
    }
    names_of_classes = find_labels(labels, published, next(iter(models.values())).network)
    click.echo(f"{prepare}", err=True)
    predictions = (predict(models, prepare, file, top, names_of_classes) for file in files)
    if as_json:
        print_json(list(predictions))
        return
    for prediction in predictions:
        click.echo("; ".join([prediction["image"], *prediction["notes"]]))
        print_fitting(tabulate_classes(prediction["backends"]))


def list_pictures(paths: Iterable[str]) -> list[str]:
    """Return the picture files that paths stand for, those of a folder in alphabetical order. Raises ImageError."""
    from PIL import Image

    from resnet_spec.preparation.pictures import ImageError

    suffixes = Image.registered_extensions()
    files: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            files.append(path)
            continue
        inside = sorted(str(file) for file in Path(path).iterdir() if file.suffix.lower() in suffixes)
        if not inside:
            raise ImageError(f"the folder {path} has no file whose suffix is one of a picture's")
        files += inside
    return files


def find_weights(spec: str, network: Network, weights: str | None) -> PublishedWeights | None:
    """Return the published weights that ``--weights`` names by tag, or whose file it is; None for other files."""
    from resnet_spec.downloads.select import find_names, is_tag, recognize_file, select_published

    if weights is None:
        return None
    named = network if spec == "-" else spec
    if is_tag(named, weights):
        return select_published(named, weights)
    names = set(find_names(named))
    return next(
        (file for file in recognize_file(weights, is_thorough=False) if names & {file.spec, *file.same_network}), None
    )


def find_labels(labels: str | None, published: PublishedWeights | None, network: Network) -> Sequence[str]:
    """Return the names of the classes, as ``--labels`` or the published weights say; () if they are not known."""
    from resnet_spec.preparation.labels import UnknownLabelsError, labels_of_weights, read_labels

    if labels is None:
        try:
            return labels_of_weights(published) if published else ()
        except UnknownLabelsError as error:
            click.echo(f"classes are numbered: {error}", err=True)
            return ()
    is_file = Path(labels).is_file()
    names = Path(labels).read_text(encoding="utf-8").splitlines() if is_file else read_labels(labels)
    if (len(names),) != network.output_shape:
        raise click.UsageError(f"{labels} has {len(names):,} names, and {network.name} outputs {network.output_shape}")
    return names


def predict(
    models: Mapping[str, Model], prepare: Preparation, file: str, top: int, names: Sequence[str]
) -> dict[str, Any]:
    """Return the most likely classes of a picture by backend, with what was done to read it, as JSON values."""
    from resnet_spec.preparation.labels import top_classes

    pixels, notes = prepare.prepare(file)
    backends = {
        backend: [
            {"class": number, **({"name": names[number]} if names else {}), "probability": probability}
            for number, probability in top_classes(run(model, pixels[None])[0], top)
        ]
        for backend, model in models.items()
    }
    return {"image": file, "notes": list(notes), "backends": backends}


def tabulate_classes(classes: Mapping[str, list[dict[str, Any]]]) -> Table:
    """Return a table of the most likely classes of a picture, with a column for each backend."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for backend in classes:
        table.add_column(backend, justify="right", no_wrap=True)
    for rank, row in enumerate(zip(*classes.values(), strict=True), start=1):
        table.add_row(str(rank), *map(_describe_class, row))
    return table


def _describe_class(row: Mapping[str, Any]) -> str:
    name = row.get("name", f"class {row['class']}")
    return f"{name}  {100 * row['probability']:.4f} %"
