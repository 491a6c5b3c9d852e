"""The core's summary against torchinfo's of the built model, and the reference in NumPy against torch: lines of JSON. ``run.py`` calls this."""

from __future__ import annotations

import torch
import torchinfo
from against_torch import evaluated, images, vision
from measure import Case, asked, compared, in_turn, say

from resnet_spec import build, load, run
from resnet_spec.network.network import Network
from resnet_spec.views.table import DEFAULT_COLUMNS, build_table
from resnet_spec.views.table_formats import render_markdown


def said(network: Network) -> str:
    return render_markdown(build_table(network), DEFAULT_COLUMNS)


def summed(model: torch.nn.Module) -> str:
    """torchinfo runs the model, and so its table is of as many images as it is told."""
    return str(torchinfo.summary(model, (1, 3, 224, 224), verbose=0))


def main() -> None:
    options = asked()
    name, rounds = options.model, options.rounds
    network, built = load(name), vision(name)
    summaries = {
        "of what is there": (lambda: said(network), lambda: summed(built)),
        "from the start": (lambda: said(load(name)), lambda: summed(vision(name))),
    }
    for which, (own, theirs) in summaries.items():
        seconds = in_turn({"ours": own, "torchinfo": theirs}, rounds)
        say([compared(seconds, "ours", "torchinfo", Case("core", name, 0, f"summary, {which}"))])

    x = images(1)
    array = x.numpy()
    reference = build("resnet18", backend="numpy", dtype="float32")
    evaluations = {"ours": lambda: run(reference, array), "torch": evaluated(vision("resnet18"), x)}
    say([compared(in_turn(evaluations, rounds), "ours", "torch", Case("numpy", "resnet18", 1, "evaluation"))])


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
