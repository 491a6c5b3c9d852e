"""A network at a size to compare at: small, not square, and with maps of odd sizes, where it allows that."""

from __future__ import annotations

from typing import Any

from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.library.load import load
from resnet_spec.network.network import Network

SIZES = ((72, 56), (96, 64))
"""Heights and widths: in networks that halve five times, the maps of the first are odd and even both; some take even ones alone."""


def small(spec: str, **settings: Any) -> Network:
    """The network at the first of ``SIZES`` that it takes, never larger than its own input; else at its own. Raises SpecError.

    >>> small("resnet18").input, small("resnet34_cifar").input, small("flax/ResNet50").input
    ((3, 72, 56), (3, 32, 32), (3, 96, 64))
    """
    network = load(spec, **settings)
    channels, *own = network.input
    for size in SIZES:
        height, width = map(min, size, own)
        try:
            return load(spec, input=(channels, height, width), **settings)
        except SpecError:
            continue
    return network
