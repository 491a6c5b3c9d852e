"""The ``run`` command: predict the classes of an image in several backends."""

from __future__ import annotations

import click

from resnet_spec.api import build, run
from resnet_spec.backend import choose_backends, installed_backends
from resnet_spec.commands.options import (
    all_option,
    json_option,
    load_network,
    print_fitting,
    print_json,
    set_option,
    under_option,
)


@click.command("run")
@click.argument("spec")
@click.option("--image", required=True, metavar="FILE", help="An image, in any format that Pillow reads.")
@click.option("--backend", "names", metavar="NAME,...", help="Backends to use. [default: the installed ones, or numpy]")
@click.option("--weights", metavar="FILE", help="A checkpoint in any format. [default: initial weights]")
@under_option
@click.option("--seed", default=0, show_default=True, help="Seed of the initial weights.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Number of classes to print.")
@set_option
@all_option
@json_option
def run_(
    spec: str,
    image: str,
    names: str | None,
    weights: str | None,
    under: str | None,
    seed: int,
    top: int,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Predict the classes of an image, and print the most likely ones, with a column for each backend."""
    from resnet_spec import preprocessing

    network = load_network(spec, settings, None)
    pixels = preprocessing.prepare(image, network)
    classes = {}
    for name in choose_backends(names) if names is not None else installed_backends():
        model = build(network, backend=name, weights=weights, under=under, seed=seed, dtype="float32")
        classes[name] = preprocessing.top_classes(run(model, pixels)[0], top)
    if as_json:
        print_json({name: [{"class": index, "probability": p} for index, p in top] for name, top in classes.items()})
    else:
        print_fitting(preprocessing.tabulate_classes(classes))
