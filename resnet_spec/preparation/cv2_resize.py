"""Resize as OpenCV's ``cv2.resize`` does: bilinear, without antialiasing, in integers, to the same bits."""

from __future__ import annotations

import numpy as np

from resnet_spec.weights.canonical import Array

_BITS = 11
"""Bits behind the point of a weight."""


def resize_bilinear(pixels: Array, height: int, width: int) -> Array:
    """Return pixels (height, width, channels) of type uint8 in another size, as ``cv2.INTER_LINEAR`` computes them.

    Each pixel is a mean of the four nearest, with weights of 11 bits. OpenCV averages over areas where both sides are
    halved.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[:2] == (2 * height, 2 * width):
        tiles = pixels.reshape(height, 2, width, 2, -1).sum((1, 3), dtype=np.int32)
        return ((tiles + 2) >> 2).astype(np.uint8)
    columns, right = _find_sources(pixels.shape[1], width)
    inside = (columns >= 0) & (columns < pixels.shape[1] - 1)
    left, right = np.where(inside, _scale(1 - right), 1 << _BITS), np.where(inside, _scale(right), 0)
    wide = _take(pixels, columns, 1) * left[:, None] + _take(pixels, columns + 1, 1) * right[:, None]
    rows, lower = _find_sources(pixels.shape[0], height)
    above, below = _take(wide >> 4, rows, 0), _take(wide >> 4, rows + 1, 0)
    above = (above * _scale(1 - lower)[:, None, None]) >> 16
    below = (below * _scale(lower)[:, None, None]) >> 16
    return np.clip((above + below + 2) >> 2, 0, 255).astype(np.uint8)


def _find_sources(available: int, wanted: int) -> tuple[Array, Array]:
    """Return, for each pixel of one axis, the number of the source pixel before its centre, and its distance to it."""
    scale = 1 / (wanted / available)
    centres = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(centres)
    return before.astype(np.int64), centres - before


def _scale(weights: Array) -> Array:
    return np.rint(weights * np.float32(1 << _BITS)).astype(np.int32)


def _take(pixels: Array, indices: Array, axis: int) -> Array:
    """Return the pixels at indices along an axis; those outside are the nearest inside."""
    return np.take(pixels, np.clip(indices, 0, pixels.shape[axis] - 1), axis).astype(np.int32)
