"""Who is wrong about a gradient: central differences of the reference's loss, in float64, at the place where two backends differ most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resnet_spec.backend import OUTPUT, load_backend
from resnet_spec.parity.case import Case, calm
from resnet_spec.weights.canonical import Array

STEP = 1e-5  # near the cube root of float64's rounding, where central differences are best
TRUST = 1e-6  # what they can be trusted to, relative to the gradient's size


@dataclass(frozen=True, slots=True)
class Settlement:
    """A gradient at one place, by differences and by two backends, and which of them is wrong; "" if that can't be told."""

    name: str
    index: tuple[int, ...]
    difference: float
    values: Mapping[str, float]
    wrong: str


def settled(case: Case, name: str, found: Mapping[str, Array]) -> Settlement:
    """Settle a gradient, by its name, between backends: ``found`` holds what each says of it."""
    (one, first), (other, second) = found.items()
    index = tuple(int(place) for place in np.unravel_index(np.argmax(np.abs(first - second)), first.shape))
    true = _difference(case, name, index)
    values = {one: float(first[index]), other: float(second[index])}
    off = {backend: abs(value - true) for backend, value in values.items()}
    far, near = max(off.values()), min(off.values())
    clear = far > 10 * max(near, TRUST * max(map(abs, values.values())))
    return Settlement(name, index, true, values, max(off, key=off.__getitem__) if clear else "")


def _difference(case: Case, name: str, index: tuple[int, ...]) -> float:
    weights, images = case.weights(), case.images()
    place = images if name == "input" else weights[name]
    value = place[index]
    step = STEP * max(1.0, abs(float(value)))
    losses = []
    for moved in (value + step, value - step):
        place[index] = moved
        losses.append(_loss(case, weights, images))
    return (losses[0] - losses[1]) / (2 * step)


def _loss(case: Case, weights: Mapping[str, Array], images: Array) -> float:
    """The mean cross-entropy of a training pass of the reference."""
    reference, network = load_backend("numpy"), calm(case.network)
    model = reference.build(network, dict(weights), "float64")
    logits = reference.run(model, images, train=True)[OUTPUT].reshape(len(images), -1)
    logits = logits - logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(len(images)), case.labels()]
    return float((np.log(np.exp(logits).sum(axis=1)) - chosen).mean())
