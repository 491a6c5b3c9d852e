"""Find which of two backends has the wrong gradient, by central differences of the reference's loss in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resnet_spec.backend import REFERENCE, load_backend
from resnet_spec.parity.case import Case
from resnet_spec.parity.slopes import compute_loss
from resnet_spec.weights.canonical import Array

STEP = 1e-5  # near the cube root of float64's epsilon, where central differences are most accurate
ACCURACY = 1e-6  # the error of central differences that is allowed for, relative to the gradient


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """One element of a gradient, by central differences and by two backends.

    Attributes:
        name: The parameter's canonical name, or "input".
        index: The element at which the two backends differ most.
        difference: The central difference of the reference's loss.
        values: The element by backend.
        wrong: The backend that is wrong; "" if central differences are not accurate enough to tell.
    """

    name: str
    index: tuple[int, ...]
    difference: float
    values: Mapping[str, float]
    wrong: str


def check_gradient(case: Case, name: str, gradients: Mapping[str, Array]) -> GradientCheck:
    """Check two backends' gradients of a parameter, or of "input", by central differences.

    ``gradients`` holds the two gradients by backend.
    """
    (first_name, first), (second_name, second) = gradients.items()
    index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(first - second)), first.shape))
    expected = _central_difference(case, name, index)
    values = {first_name: float(first[index]), second_name: float(second[index])}
    errors = {backend: abs(value - expected) for backend, value in values.items()}
    larger, smaller = max(errors.values()), min(errors.values())
    is_clear = larger > 10 * max(smaller, ACCURACY * max(map(abs, values.values())))
    return GradientCheck(name, index, expected, values, max(errors, key=errors.__getitem__) if is_clear else "")


def _central_difference(case: Case, name: str, index: tuple[int, ...]) -> float:
    weights, images = case.weights(), case.images()
    array = images if name == "input" else weights[name]
    value = array[index]
    step = STEP * max(1.0, abs(float(value)))
    losses = []
    for moved in (value + step, value - step):
        array[index] = moved
        losses.append(compute_loss(load_backend(REFERENCE), case, weights, images))
    return (losses[0] - losses[1]) / (2 * step)
