"""Turn what a user passes as images into the one kind of array that every backend reads."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from numbers import Real

import numpy as np

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part
from resnet_spec.network.shape_rules import infer_row
from resnet_spec.ops import Shape, ShapeError
from resnet_spec.weights.canonical import Array


def convert_images(images: object, network: Network) -> Array:
    """Return images as a contiguous, writable array (batch, channels, height, width) in this machine's byte order.

    Nested lists and arrays of any type of real numbers are accepted. The result is float32 where that holds each value
    of the type, otherwise float64. It is the argument itself if nothing has to be changed.

    What frameworks answer in different ways is an error here: numbers that are not finite, an empty batch, and a size
    that the network cannot take.

    Raises:
        ValueError: These are no finite real numbers, there are not four axes, there is no image, the number of channels
            is not the network's, or a part cannot take the size.
    """
    if isinstance(images, np.ma.MaskedArray):
        raise ValueError("images are a masked array, and no backend can leave pixels out; pass images.filled(0)")
    try:
        array = np.asarray(images)
    except Exception as error:  # a framework's tensor may raise anything
        raise ValueError(f"images must be an array or nested lists: {error}") from None
    channels = network.input[0]
    if array.ndim != 4 or array.shape[1] != channels:
        raise ValueError(f"images must be (batch, {channels}, height, width) for {network.name}, not {array.shape}")
    if not len(array):
        raise ValueError(f"images must be at least one, but the batch is empty: {array.shape}")
    problem = array.shape[1:] != network.input and _find_problem(network, array.shape[1:])
    if problem:
        raise ValueError(f"images of {array.shape[2]} x {array.shape[3]} do not fit {network.name}: {problem}")
    images = np.require(_to_float(array), requirements=("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"))
    finite = np.isfinite(images)
    if not finite.all():
        place = tuple(int(axis) for axis in np.unravel_index(int(finite.argmin()), images.shape))
        raise ValueError(f"images must be finite numbers, but there is {images[place]} at {place}")
    return images


@lru_cache(maxsize=16)
def _find_problem(network: Network, shape: Shape) -> str:
    """Return why a network cannot take images of a shape (channels, height, width), or ""."""
    parts: list[Part] = []
    for part in network.parts:
        try:
            (inferred,), shape = infer_row((part,), shape)
        except ShapeError as error:
            return error.describe_in(part.path)
        parts.append(inferred)
    built, wanted = network.weights(), replace(network, parts=tuple(parts)).weights()
    changed = next((name for name in built if built[name] != wanted[name]), None)
    return f"{changed} has the shape {built[changed]}, but would need {wanted[changed]}" if changed else ""


def _to_float(array: Array) -> Array:
    if np.can_cast(array.dtype, np.float32, "safe"):
        return array.astype(np.float32, copy=False)
    is_real = np.can_cast(array.dtype, np.float64, "same_kind")
    if array.dtype == np.object_:
        is_real = all(isinstance(value, Real | np.bool_) for value in array.flat)
    if not is_real:
        raise ValueError(f"images must be real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)
