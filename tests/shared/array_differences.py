"""How far arrays are from what is expected, relative to the largest expected value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_spec.weights.canonical import Array


def relative_difference(actual: Array, expected: Array, scale: float | None = None) -> float:
    """Return the largest difference over ``scale``, by default the largest expected magnitude.

    Fails if shapes or dtypes differ, or if a value is not finite.
    """
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert np.isfinite(actual).all()
    difference = float(np.abs(actual - expected).max())
    return difference and difference / (scale or float(np.abs(expected).max()))


def assert_close(
    actual: Mapping[str, Array], expected: Mapping[str, Array], gate: float, scale: float | None = None
) -> None:
    """Fail, naming each array that differs, unless both have the same names and differ by at most ``gate``."""
    assert expected
    assert set(actual) == set(expected)
    differences = {name: relative_difference(actual[name], array, scale) for name, array in expected.items()}
    assert {name: difference for name, difference in differences.items() if difference > gate} == {}
