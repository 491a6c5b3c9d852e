"""Replace strides by dilation, so that feature maps stop shrinking at an output stride.

After a removed stride, kernels are dilated by it, which keeps the receptive fields; weights trained with the stride
remain valid (DeepLab; Chen et al. 2014). Pooling has no such form in general, so pools are treated as in timm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from resnet_spec.network.features import MAX_PERIOD, find_period
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.shape_rules import infer_row
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import (
    AdaptiveAvgPool,
    AvgPool,
    BlurPool,
    Conv,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Pair,
    ShapeError,
    SpaceToDepth,
    StandardizedConv,
    Upsample,
    ZeroPad,
    fixed_padding,
    map_stride,
    op_name,
    per_axis,
)


@dataclass(frozen=True, slots=True)
class Reach:
    """The effect of the layers so far on the next one.

    Attributes:
        stride: The factor by which the feature maps have shrunk.
        dilation: The factor by which kernels are dilated, which is the product of the removed strides.
        size: The height and width of the feature map; None if there is none.
        side: Whether the next layer is in a shortcut or a parallel branch.
    """

    stride: int
    dilation: int
    size: tuple[int, ...] | None
    side: bool = False


def with_dilation(network: Network, output_stride: int) -> Network:
    """Return the network with feature maps that shrink by at most ``output_stride``.

    Without its stride a map is as many times as large as the stride said. For an image that the strides divide, every
    map is compared with that of the network with strides.

    Raises ShapeError if a map would have another size, as behind a window that is not centred.

    >>> from resnet_spec import load
    >>> network = with_dilation(load("resnet50"), 8)
    >>> [feature.stride for feature in network.features() if feature.path.startswith("layer4")]
    [8, 8, 8, 8]
    """

    def dilate(leaf: Leaf, reach: Reach) -> tuple[Part, Reach]:
        changed, after = _dilate(leaf, reach, output_stride)
        return changed, _check_size(leaf, changed, reach, after)

    rules: Rules[Reach] = Rules(
        leaf=dilate,
        combine=lambda part, branch, shortcut: (
            replace(shortcut, side=branch.side) if part.combine == "multiply" else branch
        ),
        join=lambda part, reach, outputs: replace(
            max(outputs, key=lambda output: (output.stride, output.dilation)), side=reach.side
        ),
        enter_side=lambda reach: replace(reach, side=True),
    )
    aligned = _with_aligned_image(network)
    parts, _ = propagate(aligned.parts, Reach(1, 1, aligned.input[1:]), rules)
    return infer_shapes(replace(network, parts=parts))


def _with_aligned_image(network: Network) -> Network:
    """Return the network with the next larger image that its strides divide, if it can take that."""
    period = find_period(network.parts)
    channels, *sides = network.input
    height, width = (-(-side // period) * period for side in sides)
    try:
        return infer_shapes(network, (channels, height, width)) if period <= MAX_PERIOD else network
    except ShapeError:
        return network


def _dilate(leaf: Leaf, reach: Reach, output_stride: int) -> tuple[Part, Reach]:
    stride = map_stride(leaf.op)
    kept = stride == 1 or reach.stride * stride <= output_stride
    if not kept and per_axis(getattr(leaf.op, "stride", 1)) != (stride, stride):
        raise ShapeError(f"{op_name(leaf.op)} {leaf.path} has unequal strides, for which no dilation is defined")
    after = replace(reach, stride=reach.stride * stride) if kept else replace(reach, dilation=reach.dilation * stride)
    match leaf.op:
        case Conv() | StandardizedConv() as conv:
            return replace(leaf, op=_dilate_conv(conv, reach.dilation, kept)), after
        case Upsample(factor=factor):
            return leaf, replace(reach, stride=max(1, reach.stride // factor))
        case SpaceToDepth(size=size):
            return leaf, replace(reach, stride=reach.stride * size)
        case BlurPool() | MaxPool() as pool if not kept:
            return replace(leaf, op=replace(pool, stride=1)), after
        case AvgPool() as pool if not kept:
            return _without_stride(leaf, pool, reach.side), after
        case _:
            return leaf, after


def _dilate_conv(conv: Conv | StandardizedConv, dilation: int, keeps_stride: bool) -> Conv | StandardizedConv:
    """Return a convolution whose kernel is dilated on each axis on which it has more than one element.

    One of patches, whose windows lie side by side, gets the padding ``same`` in place of its stride, as in timm.
    """
    factors = [dilation if size > 1 else 1 for size in per_axis(conv.kernel)]
    padding = fixed_padding(conv)
    if not keeps_stride and conv.kernel == conv.stride and padding == 0:
        padding = None
    return replace(
        conv,
        padding="same" if padding is None else _times(padding, factors),
        dilation=_times(conv.dilation, factors),
        stride=conv.stride if keeps_stride else 1,
    )


def _times(value: int | Pair, factors: Sequence[int]) -> Pair:
    height, width = (size * factor for size, factor in zip(per_axis(value), factors, strict=True))
    return height, width


def _check_size(leaf: Leaf, changed: Part, reach: Reach, after: Reach) -> Reach:
    """Return the reach after a layer, with the size of its map.

    Raises ShapeError unless that is the size of the map with strides, times the product of the removed strides.
    """
    if reach.size is None or len(leaf.output_shape) != 3:
        return replace(after, size=None)
    (_, *size) = infer_row((changed,), (leaf.input_shape[0], *reach.size))[1]
    if isinstance(leaf.op, GlobalAvgPool | GlobalMaxPool | AdaptiveAvgPool):
        return replace(after, size=tuple(size), dilation=1)
    expected = [side * after.dilation for side in leaf.output_shape[1:]]
    if size != expected:
        found, wanted = (" x ".join(map(str, sides)) for sides in (size, expected))
        raise ShapeError(
            f"without strides, {op_name(leaf.op)} {leaf.path} would output maps of {found} pixels instead of {wanted}",
            help="give it an odd kernel and a padding of half of that, so that windows are centred",
        )
    return replace(after, size=tuple(size))


def _without_stride(leaf: Leaf, pool: AvgPool, side: bool) -> Part:
    """Return an average pool without its stride: it still averages in a shortcut, but not in the main branch."""
    if not side:
        return replace(leaf, op=AvgPool(1))
    kernel, padding = per_axis(pool.kernel), fixed_padding(pool)
    if padding is None or all(size == 2 * margin + 1 for size, margin in zip(kernel, per_axis(padding), strict=True)):
        return replace(leaf, op=replace(pool, stride=1))
    shape = leaf.input_shape
    pad = Leaf(f"{leaf.path}.pad", ZeroPad(0, kernel[0] - 1, 0, kernel[1] - 1), shape, shape, leaf.span)
    mean = Leaf(f"{leaf.path}.pool", AvgPool(pool.kernel), shape, shape, leaf.span)
    return Chain(leaf.path, (pad, mean), shape, shape, leaf.span)
