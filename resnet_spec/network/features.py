"""The feature maps of a network, and their strides, which follow from shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from resnet_spec.network.parts import Chain, Leaf, Row
from resnet_spec.network.shape_rules import infer_row
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import Shape, ShapeError, SpaceToDepth, map_stride

MAX_PERIOD = 2**40
"""The largest number of pixels by which an image is enlarged to measure strides."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature map: the path of the part that outputs it, its channels, and its stride in pixels of the image."""

    path: str
    channels: int
    stride: int


def find_features(parts: Row, image: Shape) -> tuple[Feature, ...]:
    """Return the feature maps of a network outside of blocks: those of its parts, and of the parts inside chains.

    ``image`` is the shape of the image for which the shapes of the parts are inferred.
    """
    period, side = find_period(parts), max(image[1:])
    larger = _shapes_of_larger_image(parts, image, period)
    return tuple(
        Feature(path, shape[0], _stride(shape, larger.get(path), side, period))
        for path, shape in _trunk_shapes(parts)
        if len(shape) == 3
    )


def find_period(parts: Row) -> int:
    """Return the number of pixels by which an image must grow so that every map grows by a whole number of elements.

    It is the least common multiple of the factors by which strides shrink the maps, or, if that exceeds ``MAX_PERIOD``,
    a larger number.
    """
    period = 1
    for factor in find_factors(parts):
        period = min(math.lcm(period, factor), MAX_PERIOD + 1)
    return period


def find_factors(parts: Row) -> list[int]:
    """Return the factors by which strides shrink the maps, in ascending order; none exceeds ``MAX_PERIOD`` + 1."""
    factors = {1}

    def multiply(leaf: Leaf, factor: int) -> tuple[Leaf, int]:
        shrinks_by = leaf.op.size if isinstance(leaf.op, SpaceToDepth) else map_stride(leaf.op)
        factor = min(factor * shrinks_by, MAX_PERIOD + 1)
        factors.add(factor)
        return leaf, factor

    rules: Rules[int] = Rules(
        leaf=multiply,
        combine=lambda part, branch, shortcut: max(branch, shortcut),
        join=lambda part, factor, outputs: max(outputs),
    )
    propagate(parts, 1, rules)
    return sorted(factors)


def _shapes_of_larger_image(parts: Row, image: Shape, period: int) -> dict[str, Shape]:
    """Return the shapes for an image that is one period higher and wider; none if the network can't take that."""
    channels, height, width = image
    if period > MAX_PERIOD:
        return {}
    try:
        return dict(_trunk_shapes(infer_row(parts, (channels, height + period, width + period))[0]))
    except ShapeError:
        return {}


def _stride(shape: Shape, larger: Shape | None, side: int, period: int) -> int:
    """Return the distance between the centres of two elements of a map, in pixels of the image.

    It is the growth of the image divided by that of the map, which no padding changes. The one element of a map that
    does not grow, such as one that is pooled over the image, stands for all pixels.
    """
    if larger is None:
        return max(1, round(side / max(shape[1:])))
    growth = max(larger[1:]) - max(shape[1:])
    return period // growth if growth else side


def _trunk_shapes(row: Row) -> Iterator[tuple[str, Shape]]:
    for part in row:
        if isinstance(part, Chain):
            yield from _trunk_shapes(part.parts)
        yield part.path, part.output_shape
