"""Compare summaries with torchinfo, and the reference in NumPy with PyTorch. ``run.py`` runs this script."""

from __future__ import annotations

import torch
import torchinfo
from against_torch import build_torchvision, make_evaluation, make_images
from measure import Case, compare, parse_arguments, print_records, time_in_turn

from resnet_spec import build, load, run
from resnet_spec.network.network import Network
from resnet_spec.views.table import DEFAULT_COLUMNS, build_table
from resnet_spec.views.table_formats import render_markdown


def summarize(network: Network) -> str:
    return render_markdown(build_table(network), DEFAULT_COLUMNS)


def summarize_by_torchinfo(model: torch.nn.Module) -> str:
    """Return torchinfo's summary for one image. It runs the model, so the time depends on the number of images."""
    return str(torchinfo.summary(model, (1, 3, 224, 224), verbose=0))


def main() -> None:
    options = parse_arguments()
    name, rounds = options.model, options.rounds
    network, built = load(name), build_torchvision(name)
    summaries = {
        "of what is there": (lambda: summarize(network), lambda: summarize_by_torchinfo(built)),
        "from the start": (lambda: summarize(load(name)), lambda: summarize_by_torchinfo(build_torchvision(name))),
    }
    for which, (own, theirs) in summaries.items():
        seconds = time_in_turn({"ours": own, "torchinfo": theirs}, rounds)
        print_records([compare(seconds, "ours", "torchinfo", Case("core", name, 0, f"summary, {which}"))])

    x = make_images(1)
    array = x.numpy()
    reference = build("resnet18", backend="numpy", dtype="float32")
    evaluations = {"ours": lambda: run(reference, array), "torch": make_evaluation(build_torchvision("resnet18"), x)}
    print_records(
        [compare(time_in_turn(evaluations, rounds), "ours", "torch", Case("numpy", "resnet18", 1, "evaluation"))]
    )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
