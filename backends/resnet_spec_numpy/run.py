"""Evaluate the reference, and capture its parts' outputs."""

from __future__ import annotations

from collections.abc import Collection
from copy import copy

from resnet_spec.backend import OUTPUT
from resnet_spec.weights.canonical import Array
from resnet_spec_numpy.modules import ResNet


def fix_order(model: ResNet) -> None:
    """Have a model compute the same bits on every machine, in several times the time."""
    model.is_ordered = True


def run(
    model: ResNet, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change, not even for other threads while it runs.
    """
    twin, captured = copy(model), dict[str, Array]()
    twin.weights, twin.training = dict(model.weights), train
    result = twin(images, capture, captured, part)
    outputs = () if part else model.network.outputs
    return {**captured, **(dict(zip(outputs, result, strict=True)) if outputs else {OUTPUT: result})}


def devices() -> list[str]:
    """Return the one device that NumPy computes on."""
    return ["cpu"]
