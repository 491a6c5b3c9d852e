"""Cast arrays from one floating-point type to another, and count the values that are lost."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from resnet_spec.checkpoints.formats.tensors import BFLOAT16, Dtype
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class Losses:
    """How many values of an array were NaN or infinite, and how many were lost in a cast.

    Attributes:
        not_finite: NaN and infinite values, which a cast keeps.
        saturated: Values that were too large for the type.
        vanished: Values other than zero that became zero.
    """

    not_finite: int = 0
    saturated: int = 0
    vanished: int = 0

    def __str__(self) -> str:
        counts = {
            "not finite (NaN or infinite)": self.not_finite,
            "too large for the type, replaced by its largest number": self.saturated,
            "too small for the type, replaced by zero": self.vanished,
        }
        return "; ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def cast(array: Array, dtype: Dtype) -> tuple[Array, Losses]:
    """Return an array in another type, and what was lost.

    Values too large for the type become its largest number; NaN and infinity are kept.

    >>> cast(np.array([1e6, -1e6, 1e-9, np.nan]), np.dtype(np.float16))[1]
    Losses(not_finite=1, saturated=2, vanished=1)
    """
    not_finite = np.flatnonzero(~_is_finite(array))
    if array.dtype == dtype:
        return array, Losses(not_finite=len(not_finite))
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(dtype)
    saturated = np.setdiff1d(np.flatnonzero(~_is_finite(result)), not_finite, assume_unique=True)
    largest = ml_dtypes.finfo(dtype).max
    result.reshape(-1)[saturated] = np.where(array.reshape(-1)[saturated] > 0, largest, -largest)
    is_narrower = ml_dtypes.finfo(dtype).smallest_subnormal > ml_dtypes.finfo(array.dtype).smallest_subnormal
    vanished = int(np.count_nonzero((result == 0) & (array != 0))) if is_narrower else 0
    return result, Losses(len(not_finite), len(saturated), vanished)


def _is_finite(array: Array) -> Array:
    """Return which values of the flattened array are finite."""
    flat = array.reshape(-1)
    if array.dtype == BFLOAT16:  # testing the exponent's bits is eight times as fast as ml_dtypes' isfinite
        return (flat.view(np.uint16) & np.uint16(0x7F80)) != 0x7F80
    return np.isfinite(flat)
