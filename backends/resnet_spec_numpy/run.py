"""Run the reference: evaluate it and look into it."""

from __future__ import annotations

from collections.abc import Collection

from resnet_spec.backend import OUTPUT
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy.modules import ResNet


def run(
    model: ResNet, images: Array, watch: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Outputs by path, of the parts to watch and of the network, or of a part alone. The model is left as it was."""
    weights, mode, seen = model.weights, model.training, dict[str, Array]()
    model.weights, model.training = dict(weights), train
    try:
        given = model(images, watch, seen, part)
    finally:
        model.weights, model.training = weights, mode
    outputs = () if part else model.network.outputs
    return {**seen, **(dict(zip(outputs, given, strict=True)) if outputs else {OUTPUT: given})}
