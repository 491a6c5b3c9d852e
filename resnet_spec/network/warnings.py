"""What may go wrong with a network that is right: warnings, which ``check`` prints and which stop nothing."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.diagnostics.problems import Note, Problem
from resnet_spec.network.input_size import WINDOW, Image, find_smallest_input
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.traversal import walk
from resnet_spec.ops import BatchNorm, GroupNorm, ShapeError

LARGER = 4
"""A norm that sees one value even of images so many times as high and wide is meant to."""


def find_warnings(network: Network) -> list[Problem]:
    """Warnings of a network: norms that see one value, for want of a larger image; of each of its parts, the first.

    >>> from resnet_spec import load
    >>> [problem.message for problem in find_warnings(load("resnet18", input=(3, 32, 32)))]
    ['layer4.0.bn1 is given (512, 1, 1): one value a channel']
    """
    channels, height, width = network.input
    found = _alone(network)
    found -= _at(network, (channels, LARGER * height, LARGER * width)) if found else set()
    if not found:
        return []

    def small(image: Image) -> set[str]:
        try:
            return {WINDOW} if found & _alone(infer_shapes(network, image)) else set()
        except ShapeError as error:
            return {WINDOW} if error.small else {"RS402"}

    layers = sum(1 for _ in network.nodes())
    image = find_smallest_input(network.input, small, layers)
    size = f", or images of {' x '.join(map(str, image))} or more" if image else ""
    return [_notice(part, leaf, size) for part, leaf in _firsts(network, found)]


def _notice(part: Part, leaf: Leaf, size: str) -> Problem:
    assert part.at is not None
    if isinstance(leaf.op, GroupNorm):
        message = f"{leaf.path} is given {leaf.input_shape}: one value a group, so that only its shift is left"
        help = f"it takes fewer groups{size}"
    else:
        message = f"{leaf.path} is given {leaf.input_shape}: one value a channel"
        help = f"training takes two images or more at a time{size}"
    notes = () if leaf.at in (None, part.at) else (Note("it is this norm", leaf.at),)
    return Problem("RS404", message, part.at, help, notes, "warning")


def _firsts(network: Network, found: set[str]) -> Iterator[tuple[Part, Leaf]]:
    for part in network.parts:
        leaves = [leaf for leaf in walk((part,)) if isinstance(leaf, Leaf) and leaf.path in found]
        if leaves and part.at is not None:
            yield part, leaves[0]


def _at(network: Network, image: Image) -> set[str]:
    try:
        return _alone(infer_shapes(network, image))
    except ShapeError:
        return set()


def _alone(network: Network) -> set[str]:
    """The paths of norms that are given one value of each image to work out a mean from."""
    return {leaf.path for leaf in network.leaves() if _values(leaf) == 1}


def _values(leaf: Leaf) -> int:
    match leaf.op:
        case BatchNorm() | GroupNorm() as norm:
            return norm.values(leaf.input_shape)
        case _:
            return 0
