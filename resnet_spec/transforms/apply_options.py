"""Apply the options of a network: pooling, dilation, dropout, stochastic depth, DropBlock, initial scales of norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias, assert_never

from resnet_spec.language.options import Options, Pool
from resnet_spec.language.spec import Join
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
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


def with_options(network: Network, options: Options) -> Network:
    """Return the network with options applied. Raises ShapeError if one does not fit the network."""
    if options == Options():
        return network
    if options.pool != "as_written":
        network = infer_shapes(
            replace(network, parts=_replace_last(network.parts, _is_pool, _pool_by(options.pool), "pool"))
        )
    if options.output_stride:
        network = with_dilation(network, options.output_stride)
    if options.zero_last_gamma:
        network = _map_blocks(network, lambda block, number: _with_zero_gamma(block))
    if options.drop_block:
        network = _with_drop_block(network, options.drop_block)
    if options.drop_path:
        network = _with_drop_path(network, options.drop_path)
    if options.dropout:
        drop = _dropout_before(options.dropout)
        network = replace(network, parts=_replace_last(network.parts, _is_classifier, drop, "classifier"))
    return network


# -- blocks -------------------------------------------------------------------------------------------------------


def _map_blocks(network: Network, change: Callable[[Residual, int], Residual]) -> Network:
    """Return the network with residual blocks of its stages changed; ``change`` takes a block and its index from 0."""
    number = 0
    parts: list[Part] = []
    for part in network.parts:
        if part.path in network.stages and isinstance(part, Chain):
            blocks: list[Part] = []
            for block in part.parts:
                adds = isinstance(block, Residual) and block.combine == "add"
                blocks.append(change(block, number) if isinstance(block, Residual) and adds else block)
                number += 1
            part = replace(part, parts=tuple(blocks))
        parts.append(part)
    return replace(network, parts=tuple(parts))


def _count_blocks(network: Network) -> int:
    """Return the number of blocks in the stages, including those without a shortcut."""
    return sum(len(part.parts) for part in network.parts if part.path in network.stages and isinstance(part, Chain))


def _with_drop_path(network: Network, rate: float) -> Network:
    last, paths = max(1, _count_blocks(network) - 1), _paths(network)

    def change(block: Residual, number: int) -> Residual:
        if number == 0:
            return block
        shape = block.branch[-1].output_shape if block.branch else block.input_shape
        leaf = _new_leaf(paths, f"{block.path}.drop_path", DropPath(rate * number / last), shape)
        return replace(block, branch=(*block.branch, leaf))

    return _map_blocks(network, change)


def _with_drop_block(network: Network, rate: float) -> Network:
    # These are timm's sizes and factors, for the second to last stage and for the last.
    ops = [DropBlock(rate, 5, 0.25), DropBlock(rate, 3)]
    by_stage, paths = dict(zip(reversed(network.stages), reversed(ops), strict=False)), _paths(network)

    def change(block: Residual, number: int) -> Residual:
        op = next((op for stage, op in by_stage.items() if block.path.startswith(f"{stage}.")), None)
        if op is None:
            return block
        branch, _ = _insert_after_wide(paths, block.branch, op, "before the convolution")
        return replace(block, branch=branch)

    return _map_blocks(network, change)


Progress: TypeAlias = Literal["before the convolution", "before the norm", "done"]


def _insert_after_wide(paths: frozenset[str], row: Row, op: Op, progress: Progress) -> tuple[Row, Progress]:
    """Insert an operation after the norm that follows the first convolution larger than 1 x 1; return the progress."""
    done: list[Part] = []
    for part in row:
        done.append(part)
        if progress == "done":
            continue
        match part:
            case Leaf(op=Conv(kernel=kernel) | StandardizedConv(kernel=kernel)) if kernel > 1:
                progress = "before the norm"
            case Leaf(op=BatchNorm() | GroupNorm() | LayerNorm()) if progress == "before the norm":
                done.append(_new_leaf(paths, f"{part.path.rpartition('.')[0]}.drop_block", op, part.output_shape))
                progress = "done"
            case Chain() | Residual():  # of a block inside the branch, only the layers before its own branch
                first, *others = part.rows
                first, progress = _insert_after_wide(paths, first, op, progress)
                done[-1] = part.with_rows((first, *others))
            case _:
                pass
    return tuple(done), progress


def _with_zero_gamma(block: Residual) -> Residual:
    branch, _ = _zero_last_gamma(block.branch)
    return replace(block, branch=branch)


def _zero_last_gamma(row: Row) -> tuple[Row, bool]:
    """Return the row with the initial scale of its last norm set to zero, and whether it has a norm."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        match part:
            case Leaf(op=BatchNorm() | GroupNorm() | LayerNorm() as op):
                return (*row[:index], replace(part, op=replace(op, gamma=0.0)), *row[index + 1 :]), True
            case Chain():
                inner, found = _zero_last_gamma(part.parts)
                if found:
                    return (*row[:index], replace(part, parts=inner), *row[index + 1 :]), True
            case _:
                pass
    return row, False


# -- the head -----------------------------------------------------------------------------------------------------


def _replace_last(row: Row, wanted: Callable[[Op], bool], change: Callable[[Leaf], Row], name: str) -> Row:
    """Return the row with its last ``wanted`` operation outside of blocks replaced. Raises ShapeError if none is."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        if isinstance(part, Leaf) and wanted(part.op):
            before = row[index - 1] if index else None
            # A dropout that the spec has before its classifier is replaced too.
            drops = name == "classifier" and isinstance(before, Leaf) and isinstance(before.op, Dropout)
            return (*row[: index - drops], *change(part), *row[index + 1 :])
        if isinstance(part, Chain) and any(isinstance(leaf, Leaf) and wanted(leaf.op) for leaf in part.parts):
            return (
                *row[:index],
                replace(part, parts=_replace_last(part.parts, wanted, change, name)),
                *row[index + 1 :],
            )
    raise ShapeError(f"the network has no {name} in its head")


def _is_pool(op: Op) -> bool:
    return isinstance(op, GlobalAvgPool | GlobalMaxPool)


def _is_classifier(op: Op) -> bool:
    return isinstance(op, Linear | Conv)


def _dropout_before(rate: float) -> Callable[[Leaf], Row]:
    def change(leaf: Leaf) -> Row:
        holder = leaf.path.rpartition(".")[0]
        path = f"{holder}.drop" if holder else "drop"
        return (Leaf(path, Dropout(rate), leaf.input_shape, leaf.input_shape, leaf.span), leaf)

    return change


def _pool_by(pool: Pool) -> Callable[[Leaf], Row]:
    def change(leaf: Leaf) -> Row:
        keep = getattr(leaf.op, "keepdims", False)
        mean, maximum = GlobalAvgPool(keep), GlobalMaxPool(keep)
        match pool:
            case "as_written":
                return (leaf,)
            case "avg":
                return (replace(leaf, op=mean),)
            case "max":
                return (replace(leaf, op=maximum),)
            case "avg_max":
                return (_both(leaf, mean, maximum, "mean"),)
            case "avg_max_concat":
                return (_both(leaf, mean, maximum, "concat"),)
            case _:
                assert_never(pool)

    return change


def _both(leaf: Leaf, mean: Op, maximum: Op, combine: Join) -> Chain:
    """Return two parallel pools in place of one."""
    branches = tuple(
        (replace(leaf, path=f"{leaf.path}.{name}", op=op),) for name, op in (("avg", mean), ("max", maximum))
    )
    shapes = leaf.input_shape, leaf.output_shape
    both = Parallel(f"{leaf.path}.both", branches, False, False, combine, *shapes, leaf.span)
    return Chain(leaf.path, (both,), *shapes, leaf.span)


def _paths(network: Network) -> frozenset[str]:
    return frozenset(part.path for part in network.nodes())


def _new_leaf(paths: frozenset[str], path: str, op: Op, shape: Shape) -> Leaf:
    """Return a part with an operation that keeps the shape. Raises ShapeError if its path is taken."""
    if path in paths:
        raise ShapeError(f"the network already has a part at {path}")
    return Leaf(path, op, shape, shape)
