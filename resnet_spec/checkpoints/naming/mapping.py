"""Where a dialect keeps each weight of a network: a bijection of names, and of the order of axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_spec.checkpoints.naming.roles import Role, kind_of, roles
from resnet_spec.checkpoints.naming.tables import Dialect, Kept, Layout
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape, Weight
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class Place:
    """Where one canonical weight is kept: under which name, with its axes in which order.

    Attributes:
        ours: The canonical shape.
        between: The same numbers as another kind of layer has them: (out, in, 1, 1) for a convolution, (out, in) for a matrix.
        axes: The axes of ``between`` in the order in which they are kept.
    """

    name: str
    ours: Shape
    between: Shape
    axes: tuple[int, ...]

    @property
    def shape(self) -> Shape:
        return tuple(self.between[axis] for axis in self.axes)

    def kept(self, array: Array) -> Array:
        """A canonical array as it is kept here."""
        return _in_order(array.reshape(self.between).transpose(self.axes))

    def canonical(self, array: Array) -> Array:
        """An array that is kept here as a canonical one."""
        return _in_order(array.transpose(np.argsort(self.axes))).reshape(self.ours)

    def canonical_shape(self, shape: Shape) -> Shape:
        """The shape of an array that is kept here, put straight: also where it is not the one that is expected."""
        if shape == self.shape:
            return self.ours
        return (
            tuple(shape[self.axes.index(axis)] for axis in range(len(shape))) if len(shape) == len(self.axes) else shape
        )


_BLOCK = 8


def _in_order(array: Array) -> Array:
    """The array with its elements in memory as its axes stand.

    Copied in blocks of the last long axis: what one reads of a block's cache lines is still there when the next is read, which is
    three to seven times as fast as to copy the whole.
    """
    if array.flags.c_contiguous:
        return array
    axis = next((axis for axis in reversed(range(array.ndim)) if array.shape[axis] > _BLOCK), 0)
    found = np.empty(array.shape, array.dtype)
    for at in range(0, array.shape[axis], _BLOCK):
        block = (slice(None),) * axis + (slice(at, at + _BLOCK),)
        found[block] = array[block]
    return found


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights: its path, kind, arrays and role."""

    path: str
    kind: str
    weights: tuple[Weight, ...]
    role: Role | None


def layers(network: Network) -> list[Layer]:
    """The layers of a network that have weights."""
    known = roles(network)
    return [
        Layer(leaf.path, kind_of(leaf), leaf.op.weights(leaf.input_shape), known.get(leaf.path))
        for leaf in network.leaves()
        if leaf.op.weights(leaf.input_shape)
    ]


def places(found: list[Layer], dialect: Dialect | None, layout: Layout) -> dict[str, Place] | None:
    """Where a dialect keeps each weight, by canonical name. None if it has no name for a layer, or one for two.

    Without a dialect, layers have the names that the network gives them.

    >>> from resnet_spec import load
    >>> from resnet_spec.checkpoints.naming.tables import dialects, layouts
    >>> kept = places(layers(load("resnet18")), dialects()["keras"], layouts()["keras"])
    >>> kept["layer1.0.conv1.weight"]
    Place(name='conv2_block1_1_conv/kernel', ours=(64, 64, 3, 3), between=(64, 64, 3, 3), axes=(2, 3, 1, 0))
    """
    kept = {}
    for layer in found:
        named = (layer.path, layer.kind) if dialect is None else dialect.layer(layer.role) if layer.role else None
        if named is None:
            return None
        for weight in layer.weights:
            place = _place(*named, weight, layout)
            if place is None:
                return None
            kept[f"{layer.path}.{weight.name}"] = place
    return kept if len({place.name for place in kept.values()}) == len(kept) else None


def _place(name: str, kind: str, weight: Weight, layout: Layout) -> Place | None:
    between = weight.shape
    if weight.name == "weight" and kind == "linear" and len(between) == 4:
        if between[2:] != (1, 1):
            return None
        between = between[:2]
    elif weight.name == "weight" and kind == "conv" and len(between) == 2:
        between = (*between, 1, 1)
    kept = layout.kept.get((kind, weight.name), Kept(weight.name))
    pattern = layout.statistic if weight.statistic else layout.parameter
    axes = kept.axes or tuple(range(len(between)))
    return Place(pattern.format(layer=name, array=kept.name), weight.shape, between, axes)


def plain(name: str) -> str:
    """A name as it is compared: nested by dots, without what frameworks put at its end.

    >>> plain("conv1/kernel:0"), plain("conv1.kernel.value")
    ('conv1.kernel', 'conv1.kernel')
    """
    return name.replace("/", ".").removesuffix(":0").removesuffix(".value")
