"""Dilation in place of stride: maps stop shrinking at an output stride, and later layers see as far as they did.

Behind a removed stride, kernels are dilated by it, so weights trained with the stride stay valid (DeepLab: Chen et al. 2014).
Pooling has no such form in general; there timm's choice is followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import AvgPool, BlurPool, Conv, MaxPool, ShapeError, StandardizedConv, ZeroPad


@dataclass(frozen=True, slots=True)
class Reach:
    """What the layers so far make of the next ones.

    Attributes:
        stride: By how much the maps have shrunk.
        dilation: How many pixels apart the elements of a kernel are to be.
        side: Whether the next layer is in a shortcut or a parallel branch.
    """

    stride: int
    dilation: int
    side: bool = False


def with_dilation(network: Network, output_stride: int) -> Network:
    """Return the network with maps that shrink by at most ``output_stride``. Raises ShapeError if a pool cannot do so.

    >>> from resnet_spec import load
    >>> [feature.stride for feature in with_dilation(load("resnet50"), 8).features() if feature.path.startswith("layer4")]
    [8, 8, 8, 8]
    """
    rules: Rules[Reach] = Rules(
        leaf=lambda leaf, reach: _dilate(leaf, reach, output_stride),
        combine=lambda part, branch, shortcut: (
            replace(shortcut, side=branch.side) if part.combine == "multiply" else branch
        ),
        join=lambda part, reach, outputs: replace(
            max(outputs, key=lambda one: (one.stride, one.dilation)), side=reach.side
        ),
        enter_side=lambda reach: replace(reach, side=True),
    )
    parts, _ = propagate(network.parts, Reach(1, 1), rules)
    return infer_shapes(replace(network, parts=parts))


def _dilate(leaf: Leaf, reach: Reach, output_stride: int) -> tuple[Part, Reach]:
    stride: int = getattr(leaf.op, "stride", 1)
    kept = stride == 1 or reach.stride * stride <= output_stride
    after = replace(reach, stride=reach.stride * stride) if kept else replace(reach, dilation=reach.dilation * stride)
    match leaf.op:
        case (
            Conv(kernel=kernel, padding=padding, dilation=dilation)
            | StandardizedConv(kernel=kernel, padding=padding, dilation=dilation) as conv
        ):
            factor = reach.dilation if kernel > 1 else 1
            wide = replace(conv, padding=padding * factor, dilation=dilation * factor, stride=stride if kept else 1)
            return replace(leaf, op=wide), after
        case BlurPool() | MaxPool() as pool if not kept:
            if isinstance(pool, MaxPool) and pool.kernel != 2 * pool.padding + 1:
                size = f"{pool.kernel} x {pool.kernel}"
                raise ShapeError(f"{leaf.path} pools {size} pixels, which has no form without its stride")
            return replace(leaf, op=replace(pool, stride=1)), after
        case AvgPool() as pool if not kept:
            return _without_stride(leaf, pool, reach.side), after
        case _:
            return leaf, after


def _without_stride(leaf: Leaf, pool: AvgPool, side: bool) -> Part:
    """Return an average pool without its stride: it still smooths a shortcut, and does nothing in the main branch."""
    if not side:
        return replace(leaf, op=AvgPool(1))
    if pool.kernel == 2 * pool.padding + 1:
        return replace(leaf, op=replace(pool, stride=1))
    shape = leaf.input_shape
    pad = Leaf(f"{leaf.path}.pad", ZeroPad(0, pool.kernel - 1, 0, pool.kernel - 1), shape, shape, leaf.at)
    mean = Leaf(f"{leaf.path}.pool", AvgPool(pool.kernel), shape, shape, leaf.at)
    return Chain(leaf.path, (pad, mean), shape, shape, leaf.at)
