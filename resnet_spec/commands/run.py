"""``run``: a network on a photograph, in every backend, side by side."""

from __future__ import annotations

import click

from resnet_spec.api import build, run
from resnet_spec.backend import installed_backends
from resnet_spec.commands.options import json_option, loaded, set_option, show, show_json


@click.command("run")
@click.argument("spec")
@click.option("--image", required=True, metavar="FILE", help="A photograph, in any format that Pillow reads.")
@click.option(
    "--backend", "names", metavar="NAME,...", help="Backends to run it in. [default: those installed, else numpy]"
)
@click.option("--weights", metavar="FILE", help="A checkpoint of any kind. [default: drawn from --seed]")
@click.option("--seed", default=0, show_default=True, help="What initial weights are drawn from.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many classes to print.")
@set_option
@json_option
def run_(
    spec: str,
    image: str,
    names: str | None,
    weights: str | None,
    seed: int,
    top: int,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a network on a photograph, and print the likeliest classes by backend, side by side."""
    from resnet_spec import preprocessing

    network = loaded(spec, settings, None)
    photo = preprocessing.prepare(image, network)
    found = {}
    for name in names.split(",") if names else installed_backends():
        model = build(network, backend=name, weights=weights, seed=seed, dtype="float32")
        found[name] = preprocessing.likeliest(run(model, photo)[0], top)
    if as_json:
        show_json({name: [{"class": index, "probability": p} for index, p in best] for name, best in found.items()})
    else:
        show(preprocessing.side_by_side(found))
