"""The ``compare-model`` command: run a foreign model beside a spec, and name the first part that differs."""

from __future__ import annotations

import sys
from typing import Any

import click

from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    input_option,
    json_option,
    parse_sizes,
    print_fitting,
    print_json,
    show_progress,
)


@click.command("compare-model")
@click.argument("model")
@click.option("--spec", required=True, metavar="SPEC", help="The network: a bundled name, or a YAML file.")
@click.option(
    "--weights", metavar="FILE", help="A checkpoint in any format for both. [default: the model's own weights]"
)
@input_option
@json_option
def compare_model(model: str, spec: str, weights: str | None, size: str | None, as_json: bool) -> None:
    """Compare a PyTorch, Paddle or Flax model with a spec, layer by layer where they have the same names.

    MODEL is FILE.py:NAME or MODULE:NAME, of a model or a function that returns one. Nothing is written.
    """
    from resnet_spec.importing import comparison
    from resnet_spec.importing.named_models import load_named_model
    from resnet_spec.importing.tables import proof_table

    shape: Any = parse_sizes(size, "CxHxW", 3) if size else None
    with show_progress(f"comparing {model}"):
        found = comparison.compare_model(load_named_model(model), spec, weights, input=shape)
    first = comparison.first_difference(found)
    if as_json:
        print_json({"model": model, "spec": spec, "first": first, "comparisons": [line.to_json() for line in found]})
    else:
        print_fitting(proof_table(found), ("gate",))
        click.echo(f"the first that differs is {first}" if first else "the model and the spec compute the same")
    if first:
        sys.exit(EXIT_DIFFERENT)
