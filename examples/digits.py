"""Load scikit-learn's handwritten digits (1,797 images of 8x8 pixels), and the batch order the examples train in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

SPEC = Path(__file__).with_name("digits.yaml")
TEST_IMAGES = 360
"""A fifth of the images, drawn at random. The data set does not name its writers, so most are in both parts."""


class Digits(NamedTuple):
    """Images (count, 1, 8, 8), standardised by the training images' mean and deviation, and their labels (count,)."""

    images: NDArray[np.floating]
    labels: NDArray[np.int64]


def load_digits(dtype: str = "float32") -> tuple[Digits, Digits]:
    """Return the training images and the test images."""
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[TEST_IMAGES:], order[:TEST_IMAGES]
    standardised = (images - images[train].mean()) / images[train].std()
    maps: NDArray[Any] = standardised.reshape(-1, 1, 8, 8).astype(dtype)
    classes: NDArray[np.int64] = labels.astype(np.int64)
    return Digits(maps[train], classes[train]), Digits(maps[test], classes[test])


def batch_indices(count: int, size: int, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the images in each batch of an epoch, without a last batch that is not full.

    The order depends on the seed and the epoch alone, so a resumed run needs no state of a generator.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return (order[start : start + size] for start in range(0, count - size + 1, size))


def cosine_schedule(rate: float, steps: int) -> list[float]:
    """Return the learning rate of each step along half a cosine, and a final 0.

    Each rate is the nearest float32, because Paddle stores learning rates in float32.
    """
    rates = rate * (1 + np.cos(np.pi * np.arange(steps + 1) / steps)) / 2
    return [float(rate) for rate in rates.astype(np.float32)]
