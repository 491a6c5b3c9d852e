"""Networks whose layers were replaced in a model by others with more or fewer channels, such as another classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.traversal import map_parts
from resnet_spec.ops import Conv, Linear, Shape, ShapeError, StandardizedConv


def with_weight_shapes(network: Network, shapes: Mapping[str, Shape]) -> Network:
    """Return the network with the ``out`` and ``bias`` of its convolutions and linear layers as their weights say.

    A setting that had the value of a changed ``out``, such as the number of classes, gets the new value. Returns the
    network itself if its weights have these shapes, or if no change of these arguments gives them.

    >>> from resnet_spec import load
    >>> network = load("resnet18")
    >>> changed = with_weight_shapes(network, {**network.weights(), "fc.weight": (10, 512), "fc.bias": (10,)})
    >>> changed == load("resnet18", classes=10), changed.takes
    (True, (('classes', 10),))
    """
    if network.weights() == shapes:
        return network
    sizes: dict[int, int] = {}

    def change(part: Part) -> Part:
        shape = shapes.get(f"{part.path}.weight", ())
        if not isinstance(part, Leaf) or not isinstance(part.op, Conv | StandardizedConv | Linear) or not shape:
            return part
        if part.op.out != shape[0]:
            sizes[part.op.out] = shape[0]
        return replace(part, op=replace(part.op, out=shape[0], bias=f"{part.path}.bias" in shapes))

    try:
        changed = infer_shapes(replace(network, parts=map_parts(network.parts, change)))
    except ShapeError:
        return network
    if changed.weights() != shapes:
        return network
    takes = tuple((name, sizes.get(value, value)) for name, value in network.takes)
    before = dict(network.takes)
    renewed = {name: str(value) for name, value in takes if value != before[name]}
    settings = tuple((name, renewed.get(name, text)) for name, text in network.settings)
    return replace(changed, takes=takes, settings=settings)
