"""Compare gradients with central differences of the reference's loss: an anchor outside of all backends.

Backends that are only compared with each other may share a mistake. So the slope of the loss along a random direction
d, which changes all parameters and pixels at once, is taken in two ways: as the sum of gradient times d, and as
(loss(x + step d) - loss(x - step d)) / (2 step), in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from resnet_spec.backend import OUTPUT, Backend
from resnet_spec.parity.case import Case, without_randomness
from resnet_spec.weights.canonical import Array

TRIALS = ((0, 1e-5), (0, 1e-6), (0, 1e-7), (1, 1e-7), (0, 1e-8), (1, 1e-8))
"""Directions by number, and steps, in the order in which they are tried until the gradients match.

A step of 1e-5 is the most accurate, unless a rectifier or a pool changes sides within it: that moved the slope of a
narrow ResNet-50 by 4e-4, and of a ResNeSt by 1e-3. With 1e-7, the error is 1e-9 in both. A wrong gradient fails always.
"""


class Slope(NamedTuple):
    """The slope of the loss along a direction, by a backend's gradients and by central differences.

    Both are in units of the sum, over all parameters and the images, of the magnitude that each contributes: the slope
    itself may be small by chance.
    """

    gradient: float
    difference: float

    @property
    def error(self) -> float:
        """The difference of the two."""
        return abs(self.gradient - self.difference)


CentralDifference: TypeAlias = Callable[[int, float], float]
"""Returns the slope of the reference's loss along the direction of a number, by a central difference with a step."""


def measure_slopes(
    case: Case, gradients: Mapping[str, Mapping[str, Array]], central_difference: CentralDifference, gate: float
) -> dict[str, Slope]:
    """Return the slope of the loss by backend, for the trial in which its gradients match the difference best.

    ``gradients`` holds the gradients by name, of each backend. Trials end when all errors are at most ``gate``.
    """
    best: dict[str, Slope] = {}
    for number, step in TRIALS:
        direction = draw_direction(case, number)
        difference = central_difference(number, step)
        for name, arrays in gradients.items():
            slope = _slope(arrays, direction, difference)
            if name not in best or slope.error < best[name].error:
                best[name] = slope
        if all(slope.error <= gate for slope in best.values()):
            break
    return best


def _slope(gradients: Mapping[str, Array], direction: Mapping[str, Array], difference: float) -> Slope:
    parts = [_project(gradients.get(name), array) for name, array in direction.items()]
    scale = sum(map(abs, parts)) or 1.0
    return Slope(sum(parts) / scale, difference / scale)


def _project(gradient: Array | None, direction: Array) -> float:
    """Return the sum of gradient times direction; NaN for a gradient that is missing or has another shape."""
    if gradient is None or gradient.shape != direction.shape:
        return np.nan
    return float((np.asarray(gradient, np.float64) * direction).sum())


def draw_direction(case: Case, number: int) -> dict[str, Array]:
    """Return a random direction in float64, by the names of parameters, and "input" for the images.

    Each array moves in proportion to its own size, by normal numbers.
    """
    rng = np.random.default_rng([case.seed, number])
    statistics = {name for name, weight in case.network.owners() if weight.statistic}
    arrays = {name: array for name, array in case.weights().items() if name not in statistics}
    arrays["input"] = case.images()
    return {name: np.sqrt(np.square(array).mean()) * rng.standard_normal(array.shape) for name, array in arrays.items()}


def central_difference(backend: Backend, case: Case, number: int, step: float) -> float:
    """Return the slope of a backend's loss in float64, in training mode, along a direction."""
    direction = draw_direction(case, number)
    losses = []
    for signed in (step, -step):
        weights, images = case.weights(), case.images() + signed * direction["input"]
        for name, array in direction.items():
            if name != "input":
                weights[name] += signed * array
        losses.append(compute_loss(backend, case, weights, images))
    return (losses[0] - losses[1]) / (2 * step)


def compute_loss(backend: Backend, case: Case, weights: Mapping[str, Array], images: Array) -> float:
    """Return the mean cross-entropy of a training pass in float64."""
    model = backend.build(without_randomness(case.network), dict(weights), "float64")
    return cross_entropy(backend.run(model, images, train=True)[OUTPUT], case.labels())


def cross_entropy(outputs: Array, labels: Array) -> float:
    """Return the mean cross-entropy of a network's outputs (batch, classes, ...) and class numbers (batch,)."""
    logits = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    logits = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), labels]).mean())
