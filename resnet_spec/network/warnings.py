"""Find problems that a valid network may cause in use. ``resnet-spec check`` prints them as warnings."""

from __future__ import annotations

from collections.abc import Iterator

from resnet_spec.diagnostics.problems import Note, Problem
from resnet_spec.network.input_size import WINDOW, Image, find_smallest_input
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.traversal import walk
from resnet_spec.ops import BatchNorm, GroupNorm, ShapeError

SCALE = 4
"""A norm over one value is considered intended if it has one value even for images that many times as high and wide."""


def find_warnings(network: Network) -> list[Problem]:
    """Return warnings of norms that average over one value because the image is small, the first in each part.

    >>> from resnet_spec import load
    >>> [problem.message for problem in find_warnings(load("resnet18", input=(3, 32, 32)))]
    ['layer4.0.bn1 needs more than one value per channel in training, but one image has shape (512, 1, 1) there']
    """
    channels, height, width = network.input
    paths = _single_value_norms(network)
    if paths:
        paths -= _single_value_norms_at(network, (channels, SCALE * height, SCALE * width))
    if not paths:
        return []

    def find_problems(image: Image) -> set[str]:
        try:
            return {WINDOW} if paths & _single_value_norms(infer_shapes(network, image)) else set()
        except ShapeError as error:
            return {WINDOW} if error.input_too_small else {"RS402"}

    layers = sum(1 for _ in network.nodes())
    image = find_smallest_input(network.input, find_problems, layers)
    size = f" or images of at least {' x '.join(map(str, image))}" if image else ""
    return [_warning(part, leaf, size) for part, leaf in _first_norms(network, paths)]


def _warning(part: Part, leaf: Leaf, size: str) -> Problem:
    assert part.span is not None
    if isinstance(leaf.op, GroupNorm):
        value = "one value per group, so its output is only its shift"
        message = f"{leaf.path} has input {leaf.input_shape}, which is {value}"
        help = f"use fewer groups{size}"
    else:  # as the backends say it
        needs = "needs more than one value per channel in training"
        message = f"{leaf.path} {needs}, but one image has shape {leaf.input_shape} there"
        help = f"use a larger batch{size}"
    notes = () if leaf.span in (None, part.span) else (Note("this is the norm", leaf.span),)
    return Problem("RS404", message, part.span, help, notes, "warning")


def _first_norms(network: Network, paths: set[str]) -> Iterator[tuple[Part, Leaf]]:
    """Yield each top-level part that contains norms at some paths, with the first of these norms."""
    for part in network.parts:
        leaves = [leaf for leaf in walk((part,)) if isinstance(leaf, Leaf) and leaf.path in paths]
        if leaves and part.span is not None:
            yield part, leaves[0]


def _single_value_norms_at(network: Network, image: Image) -> set[str]:
    try:
        return _single_value_norms(infer_shapes(network, image))
    except ShapeError:
        return set()


def _single_value_norms(network: Network) -> set[str]:
    """Return the paths of norms that compute their statistics from a single value of an image."""
    return {leaf.path for leaf in network.leaves() if _has_single_value(leaf)}


def _has_single_value(leaf: Leaf) -> bool:
    return isinstance(leaf.op, BatchNorm | GroupNorm) and leaf.op.values_per_statistic(leaf.input_shape) == 1
