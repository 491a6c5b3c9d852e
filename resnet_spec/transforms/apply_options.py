"""A network as its options ask: pooling, dilation, what is dropped in training, how norms start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from resnet_spec.language.options import Options, Pool
from resnet_spec.language.spec import Join
from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import (
    BatchNorm,
    Conv,
    DropBlock,
    Dropout,
    DropPath,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    Linear,
    Op,
    Shape,
    ShapeError,
    StandardizedConv,
)
from resnet_spec.transforms.dilation import with_dilation

Row = tuple[Part, ...]


def with_options(network: Network, options: Options) -> Network:
    """The network with its options carried out. Raises Misfit where one can't be."""
    if options == Options():
        return network
    if options.pool != "as_written":
        network = infer_shapes(replace(network, parts=_last(network.parts, _is_pool, _pooling(options.pool), "pool")))
    if options.output_stride:
        network = with_dilation(network, options.output_stride)
    if options.zero_last_gamma:
        network = _each_block(network, lambda block, at: _from_zero(block))
    if options.drop_block:
        network = _drop_block(network, options.drop_block)
    if options.drop_path:
        network = _drop_path(network, options.drop_path)
    if options.dropout:
        network = replace(network, parts=_last(network.parts, _is_classifier, _dropping(options.dropout), "classifier"))
    return network


# -- blocks -------------------------------------------------------------------------------------------------------


def _each_block(network: Network, change: Callable[[Residual, int], Residual]) -> Network:
    """The network with a function applied to each residual block of its stages; it is told the block's number from 0 on."""
    number = 0
    parts: list[Part] = []
    for part in network.parts:
        if part.path in network.stages and isinstance(part, Chain):
            blocks: list[Part] = []
            for block in part.parts:
                match block:
                    case Residual(combine="add"):
                        blocks.append(change(block, number))
                    case _:
                        blocks.append(block)
                number += 1
            part = replace(part, parts=tuple(blocks))
        parts.append(part)
    return replace(network, parts=tuple(parts))


def _count(network: Network) -> int:
    """How many blocks the stages have, those without a shortcut too."""
    return sum(len(part.parts) for part in network.parts if part.path in network.stages and isinstance(part, Chain))


def _drop_path(network: Network, rate: float) -> Network:
    last, taken = max(1, _count(network) - 1), _paths(network)

    def drop(block: Residual, number: int) -> Residual:
        if number == 0:
            return block
        input_shape = block.branch[-1].output_shape if block.branch else block.input_shape
        leaf = _new(taken, f"{block.path}.drop_path", DropPath(rate * number / last), input_shape)
        return replace(block, branch=(*block.branch, leaf))

    return _each_block(network, drop)


def _drop_block(network: Network, rate: float) -> Network:
    # timm's sizes and factors: the third stage of four, and the last
    sizes = [DropBlock(rate, 5, 0.25), DropBlock(rate, 3)]
    ops, taken = dict(zip(reversed(network.stages), reversed(sizes), strict=False)), _paths(network)

    def drop(block: Residual, number: int) -> Residual:
        op = next((op for stage, op in ops.items() if block.path.startswith(f"{stage}.")), None)
        if op is None:
            return block
        branch, _ = _after_wide(taken, block.branch, op, seen=False)
        return replace(block, branch=branch)

    return _each_block(network, drop)


def _after_wide(taken: frozenset[str], row: Row, op: Op, seen: bool) -> tuple[Row, bool | None]:
    """The row with an operation after the norm that follows its first wide convolution. ``seen``: that conv; None: all done."""
    done: list[Part] = []
    state: bool | None = seen
    for part in row:
        if state is not None:
            match part:
                case Leaf(op=Conv(kernel=kernel) | StandardizedConv(kernel=kernel)) if kernel > 1:
                    state = True
                case Leaf(op=BatchNorm() | GroupNorm() | LayerNorm()) if state:
                    beside = f"{part.path.rpartition('.')[0]}.drop_block"
                    done += [part, _new(taken, beside, op, part.output_shape)]
                    state = None
                    continue
                case Chain():
                    inner, state = _after_wide(taken, part.parts, op, state)
                    part = replace(part, parts=inner)
                case Residual():
                    inner, state = _after_wide(taken, part.before, op, state)
                    part = replace(part, before=inner)
                case _:
                    pass
        done.append(part)
    return tuple(done), state


def _from_zero(block: Residual) -> Residual:
    branch, _ = _zeroed(block.branch)
    return replace(block, branch=branch)


def _zeroed(row: Row) -> tuple[Row, bool]:
    """The row with the scale of its last norm at zero, and whether it has one."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        match part:
            case Leaf(op=BatchNorm() | GroupNorm() | LayerNorm() as op):
                return (*row[:index], replace(part, op=replace(op, gamma=0.0)), *row[index + 1 :]), True
            case Chain():
                inner, found = _zeroed(part.parts)
                if found:
                    return (*row[:index], replace(part, parts=inner), *row[index + 1 :]), True
            case _:
                pass
    return row, False


# -- the head -----------------------------------------------------------------------------------------------------


def _last(row: Row, wanted: Callable[[Op], bool], change: Callable[[Leaf], list[Part]], what: str) -> Row:
    """The row with its last wanted operation, outside of blocks, replaced by what a function makes of it. Raises Misfit."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        if isinstance(part, Leaf) and wanted(part.op):
            before = row[index - 1] if index else None
            known = isinstance(before, Leaf) and isinstance(before.op, Dropout) and what == "classifier"
            return (*row[: index - known], *change(part), *row[index + 1 :])
        if isinstance(part, Chain) and any(isinstance(leaf, Leaf) and wanted(leaf.op) for leaf in part.parts):
            return (*row[:index], replace(part, parts=_last(part.parts, wanted, change, what)), *row[index + 1 :])
    raise ShapeError(f"the network has no {what} in its head")


def _is_pool(op: Op) -> bool:
    return isinstance(op, GlobalAvgPool | GlobalMaxPool)


def _is_classifier(op: Op) -> bool:
    return isinstance(op, Linear | Conv)


def _dropping(rate: float) -> Callable[[Leaf], list[Part]]:
    def drop(leaf: Leaf) -> list[Part]:
        beside = leaf.path.rpartition(".")[0]
        path = f"{beside}.drop" if beside else "drop"
        return [Leaf(path, Dropout(rate), leaf.input_shape, leaf.input_shape, leaf.at), leaf]

    return drop


def _pooling(pool: Pool) -> Callable[[Leaf], list[Part]]:
    def pooled(leaf: Leaf) -> list[Part]:
        keep = getattr(leaf.op, "keepdims", False)
        mean, most = GlobalAvgPool(keep), GlobalMaxPool(keep)
        match pool:
            case "as_written":
                return [leaf]
            case "avg":
                return [replace(leaf, op=mean)]
            case "max":
                return [replace(leaf, op=most)]
            case "avg_max" | "avg_max_concat":
                branches = tuple(
                    (replace(leaf, path=f"{leaf.path}.{name}", op=op),) for name, op in (("avg", mean), ("max", most))
                )
                combine: Join = "mean" if pool == "avg_max" else "concat"
                both = Parallel(
                    f"{leaf.path}.both", branches, False, False, combine, leaf.input_shape, leaf.output_shape, leaf.at
                )
                return [Chain(leaf.path, (both,), leaf.input_shape, leaf.output_shape, leaf.at)]
            case _:
                assert_never(pool)

    return pooled


def _paths(network: Network) -> frozenset[str]:
    return frozenset(part.path for part in network.nodes())


def _new(taken: frozenset[str], path: str, op: Op, input_shape: Shape) -> Leaf:
    """A leaf of an operation that keeps the shape. Raises Misfit if the network has a part at its path."""
    if path in taken:
        raise ShapeError(f"the network has a part at {path} already")
    return Leaf(path, op, input_shape, input_shape)
