"""scikit-learn's handwritten digits, 1,797 images of 8x8 pixels: what the examples train on, and the order that they do it in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SPEC = Path(__file__).with_name("digits.yaml")
TESTED = 360
"""Images kept for the test, a fifth, drawn at random: most writers of theirs are in training images too."""


class Digits(NamedTuple):
    """Images (count, 1, 8, 8), of mean 0 and standard deviation 1 over the training images; and the digits."""

    images: NDArray[np.floating]
    labels: NDArray[np.int64]


def digits(dtype: str = "float32") -> tuple[Digits, Digits]:
    """The images to train with, and those to test with."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[TESTED:], order[:TESTED]
    standard = (images - images[train].mean()) / images[train].std()
    shaped: NDArray[Any] = standard.reshape(-1, 1, 8, 8).astype(dtype)
    numbers: NDArray[np.int64] = labels.astype(np.int64)
    return Digits(shaped[train], numbers[train]), Digits(shaped[test], numbers[test])


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of the images in each batch of an epoch, a function of the seed and the epoch alone; a last short batch is left out."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return (order[at : at + size] for at in range(0, count - size + 1, size))


def cosine(rate: float, steps: int) -> list[float]:
    """A rate for each step, along half a cosine, and the 0 after the last. Each is the nearest float32, as Paddle keeps it."""
    rates = rate * (1 + np.cos(np.pi * np.arange(steps + 1) / steps)) / 2
    return [float(rate) for rate in rates.astype(np.float32)]
