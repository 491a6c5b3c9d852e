"""Twelve pictures made in code, of odd and even, long, small and square sizes, and arrays as short digests."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from PIL import Image

from resnet_spec.weights.canonical import Array

SIZES = (
    (427, 640),
    (640, 427),
    (299, 300),
    (257, 999),
    (224, 224),
    (31, 47),
    (500, 375),
    (512, 512),
    (233, 234),
    (7, 5),
    (448, 512),
    (767, 1023),
)
"""Heights and widths."""


def make_picture(height: int, width: int) -> Image.Image:
    """Return a picture without symmetry: waves of colour, an edge, and noise in one quarter."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    waves = [127.5 + 127.5 * np.sin(rows / (3 + k) + columns / (5 - k) + k) for k in range(3)]
    pixels = np.round(np.stack(waves, axis=-1)).astype(np.uint8)
    pixels[height // 2 :, : width // 3] = (250, 5, 128)
    quarter = pixels[: height // 2, width // 2 :]
    quarter[:] = np.random.default_rng([height, width]).integers(0, 256, quarter.shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def digest(array: Array) -> str:
    """Return sixteen digits that tell an array from others: of its shape and of its bits in float32."""
    values = np.ascontiguousarray(array, np.float32) + np.float32(0)  # -0 and 0 are the same number
    return sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:16]
