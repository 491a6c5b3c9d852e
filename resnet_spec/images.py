"""Turn what a user passes as images into the one kind of array that every backend reads."""

from __future__ import annotations

from numbers import Real

import numpy as np

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array


def convert_images(images: object, network: Network) -> Array:
    """Return images as a contiguous, writable array (batch, channels, height, width) in this machine's byte order.

    Nested lists and arrays of any type of real numbers are accepted. The result is float32 where that holds each value
    of the type, otherwise float64. It is the argument itself if nothing has to be changed.

    Raises:
        ValueError: These are no real numbers, there are not four axes, or the number of channels is not the network's.
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
    return np.require(_to_float(array), requirements=("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"))


def _to_float(array: Array) -> Array:
    if np.can_cast(array.dtype, np.float32, "safe"):
        return array.astype(np.float32, copy=False)
    is_real = np.can_cast(array.dtype, np.float64, "same_kind")
    if array.dtype == np.object_:
        is_real = all(isinstance(value, Real | np.bool_) for value in array.flat)
    if not is_real:
        raise ValueError(f"images must be real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)
