"""Map each weight of a network to its name and layout in a dialect, and arrays from one to the other."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from resnet_spec.checkpoints.naming.roles import Role, find_roles, layer_kind
from resnet_spec.checkpoints.naming.tables import ArrayLayout, Dialect, Layout
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape, Weight
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class WeightMapping:
    """How a dialect stores one canonical weight.

    Attributes:
        name: The stored name.
        canonical_shape: The shape in the network.
        reshaped: The canonical shape, or (out, in, 1, 1) for a matrix that is stored as a 1x1 convolution, or (out, in)
            for a 1x1 convolution that is stored as a matrix, or with axes of one in front of the only axis, or without
            axes of one behind the first.
        axes: The order in which the axes of ``reshaped`` are stored, as for ``numpy.transpose``.
    """

    name: str
    canonical_shape: Shape
    reshaped: Shape
    axes: tuple[int, ...]

    @property
    def shape(self) -> Shape:
        """The stored shape."""
        return tuple(self.reshaped[axis] for axis in self.axes)

    def to_stored(self, array: Array) -> Array:
        """Convert a canonical array to the stored shape and order of axes."""
        return _copy_contiguous(array.reshape(self.reshaped).transpose(self.axes))

    def to_canonical(self, array: Array) -> Array:
        """Convert a stored array to the canonical shape and order of axes."""
        return _copy_contiguous(array.transpose(np.argsort(self.axes))).reshape(self.canonical_shape)

    def to_canonical_shape(self, shape: Shape) -> Shape:
        """Convert the shape of a stored array, which need not be the expected one."""
        if shape == self.shape:
            return self.canonical_shape
        if len(shape) != len(self.axes):
            return shape
        return tuple(shape[self.axes.index(axis)] for axis in range(len(shape)))


_BLOCK = 8
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?:\.|$)")
"""The parts of names that ``torch.compile``, FSDP and checkpointing of activations add."""


def _copy_contiguous(array: Array) -> Array:
    """Return an array with the same elements in C order; the array itself if it is contiguous.

    It is copied in blocks of the last long axis, three to seven times as fast as in one piece: the elements that share
    a cache line with one that is read are used while the line is still in the cache.
    """
    if array.flags.c_contiguous:
        return array
    axis = next((axis for axis in reversed(range(array.ndim)) if array.shape[axis] > _BLOCK), 0)
    copy = np.empty(array.shape, array.dtype)
    for at in range(0, array.shape[axis], _BLOCK):
        block = (slice(None),) * axis + (slice(at, at + _BLOCK),)
        copy[block] = array[block]
    return copy


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights; its role is None in a network without stages. ``epsilon`` is that of a norm."""

    path: str
    kind: str
    weights: tuple[Weight, ...]
    role: Role | None
    epsilon: float | None = None


def list_layers(network: Network) -> list[Layer]:
    """Return the layers of a network that have weights. Their roles are those that they have in the full network."""
    roles = find_roles(network.full or network)
    return [
        Layer(
            leaf.path,
            layer_kind(leaf),
            leaf.op.weights(leaf.input_shape),
            roles.get(leaf.path),
            getattr(leaf.op, "epsilon", None),
        )
        for leaf in network.leaves()
        if leaf.op.weights(leaf.input_shape)
    ]


def map_weights(layers: list[Layer], dialect: Dialect | None, layout: Layout) -> dict[str, WeightMapping] | None:
    """Map the canonical name of each weight to where a dialect stores it.

    Without a dialect, layers keep the network's names. Returns None if the dialect has no name for a layer, or the same
    name for two weights.

    >>> from resnet_spec import load
    >>> from resnet_spec.checkpoints.naming.tables import load_dialects, load_layouts
    >>> mappings = map_weights(list_layers(load("resnet18")), load_dialects()["keras"], load_layouts()["keras"])
    >>> mapping = mappings["layer1.0.conv1.weight"]
    >>> mapping.name, mapping.canonical_shape, mapping.axes
    ('conv2_block1_1_conv/kernel', (64, 64, 3, 3), (2, 3, 1, 0))
    """
    mappings = {}
    for layer in layers:
        named = _name_layer(layer, dialect)
        if named is None:
            return None
        for weight in layer.weights:
            mapping = _map_weight(*named, weight, layout)
            if mapping is None:
                return None
            mappings[f"{layer.path}.{weight.name}" if weight.name else layer.path] = mapping
    return mappings if len({mapping.name for mapping in mappings.values()}) == len(mappings) else None


def _name_layer(layer: Layer, dialect: Dialect | None) -> tuple[str, str] | None:
    """Return the name and the kind of a layer in a dialect, or None if it has no name for the layer."""
    if dialect is None:
        return layer.path, layer.kind
    return dialect.name_layer(layer.role) if layer.role else None


def _map_weight(layer: str, kind: str, weight: Weight, layout: Layout) -> WeightMapping | None:
    shape = weight.shape
    if weight.name == "weight" and kind == "linear" and len(shape) == 4:
        if shape[2:] != (1, 1):
            return None
        shape = shape[:2]
    elif kind == "vector":
        shape = shape[:1]
    elif weight.name == "weight" and kind == "conv" and len(shape) == 2:
        shape = (*shape, 1, 1)
    array = layout.arrays.get((kind, weight.name), ArrayLayout(weight.name))
    shape = (1,) * array.ones + shape if len(shape) == 1 else shape
    pattern = array.pattern or (layout.statistic if weight.statistic else layout.parameter)
    if not weight.name:  # the weight has its layer's name
        pattern = re.sub(r"[./]?\{array\}", "", pattern)
    axes = array.axes or tuple(range(len(shape)))
    return WeightMapping(pattern.format(layer=layer, array=array.name), weight.shape, shape, axes)


def normalize_name(name: str) -> str:
    """Return a name as it is compared: with dots between its parts, and without what frameworks add.

    Haiku writes ``/~/`` between modules, and MXNet ``arg:`` or ``aux:`` in front. PyTorch adds a part wherever a module
    is wrapped, also within a network: when it is compiled, sharded, or its activations are recomputed.

    >>> normalize_name("conv1/kernel:0"), normalize_name("conv1.kernel.value"), normalize_name("net/~/conv.w")
    ('conv1.kernel', 'conv1.kernel', 'net.conv.w')
    >>> normalize_name("aux:bn1.running_mean")
    'aux.bn1.running_mean'
    >>> normalize_name("model.layer1._orig_mod.0.conv1.weight")
    'model.layer1.0.conv1.weight'
    """
    if name.startswith(("arg:", "aux:")):
        name = f"{name[:3]}.{name[4:]}"
    name = name.replace("/~/", ".").replace("/", ".").removesuffix(":0").removesuffix(".value")
    return _WRAPPERS.sub("", name) if "_mod" in name or "_wrapped_" in name else name
