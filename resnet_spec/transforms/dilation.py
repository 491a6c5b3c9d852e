"""Dilation in place of stride: a network whose maps shrink no further, and whose layers look as far as they did.

What lies behind a stride that is taken away reaches over its pixels in steps of it, so weights trained with the stride stay
right (DeepLab: Chen et al. 2014). Where pooling has no such form, timm's choice is followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import AvgPool, BlurPool, Conv, MaxPool, ShapeError, StandardizedConv, ZeroPad


@dataclass(frozen=True, slots=True)
class Reach:
    """How much the maps have shrunk on the way here, and how far apart the pixels of a kernel are to be."""

    stride: int
    dilation: int


Row = tuple[Part, ...]


def with_dilation(network: Network, output_stride: int) -> Network:
    """The network with maps that shrink by at most ``output_stride``. Raises Misfit where one can't be.

    >>> from resnet_spec import load
    >>> [feature.stride for feature in with_dilation(load("resnet50"), 8).features() if feature.path.startswith("layer4")]
    [8, 8, 8, 8]
    """
    parts, _ = _row(network.parts, Reach(1, 1), output_stride, smooth=False)
    return infer_shapes(replace(network, parts=parts))


def _row(row: Row, reach: Reach, most: int, smooth: bool) -> tuple[Row, Reach]:
    done: list[Part] = []
    for part in row:
        changed, reach = _part(part, reach, most, smooth)
        done.append(changed)
    return tuple(done), reach


def _part(part: Part, reach: Reach, most: int, smooth: bool) -> tuple[Part, Reach]:
    match part:
        case Leaf():
            return _leaf(part, reach, most, smooth)
        case Chain():
            parts, after = _row(part.parts, reach, most, smooth)
            return replace(part, parts=parts), after
        case Residual():
            before, read = _row(part.before, reach, most, smooth)
            branch, after = _row(part.branch, read, most, smooth)
            other, _ = _row(part.shortcut, read if part.reads == "before" else reach, most, smooth=True)
            if part.combine == "multiply":
                after = read if part.reads == "before" else reach
            last, after = _row(part.after, after, most, smooth)
            return replace(part, before=before, branch=branch, shortcut=other, after=last), after
        case Parallel():
            rows = [_row(branch, reach, most, smooth=True) for branch in part.branches]
            after = max((after for _, after in rows), key=lambda one: (one.stride, one.dilation))
            return replace(part, branches=tuple(row for row, _ in rows)), after


def _leaf(leaf: Leaf, reach: Reach, most: int, smooth: bool) -> tuple[Part, Reach]:
    stride: int = getattr(leaf.op, "stride", 1)
    kept = stride == 1 or reach.stride * stride <= most
    after = Reach(reach.stride * stride, reach.dilation) if kept else Reach(reach.stride, reach.dilation * stride)
    match leaf.op:
        case (
            Conv(kernel=kernel, padding=padding, dilation=dilation)
            | StandardizedConv(kernel=kernel, padding=padding, dilation=dilation) as conv
        ):
            apart = reach.dilation if kernel > 1 else 1
            wide = replace(conv, padding=padding * apart, dilation=dilation * apart, stride=stride if kept else 1)
            return replace(leaf, op=wide), after
        case BlurPool() | MaxPool() as pool if not kept:
            if isinstance(pool, MaxPool) and pool.kernel != 2 * pool.padding + 1:
                raise ShapeError(
                    f"{leaf.path} pools {pool.kernel} x {pool.kernel} pixels, which has no form without its stride"
                )
            return replace(leaf, op=replace(pool, stride=1)), after
        case AvgPool() as pool if not kept:
            return _pool(leaf, pool, smooth), after
        case _:
            return leaf, after


def _pool(leaf: Leaf, pool: AvgPool, smooth: bool) -> Part:
    """An average pool without its stride: beside the branch's main way it smooths on, on that way it has nothing to do."""
    if not smooth:
        return replace(leaf, op=AvgPool(1))
    if pool.kernel == 2 * pool.padding + 1:
        return replace(leaf, op=replace(pool, stride=1))
    pad = Leaf(
        f"{leaf.path}.pad", ZeroPad(0, pool.kernel - 1, 0, pool.kernel - 1), leaf.input_shape, leaf.input_shape, leaf.at
    )
    mean = Leaf(f"{leaf.path}.pool", AvgPool(pool.kernel), leaf.input_shape, leaf.input_shape, leaf.at)
    return Chain(leaf.path, (pad, mean), leaf.input_shape, leaf.input_shape, leaf.at)
