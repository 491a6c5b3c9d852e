"""Apply the options of a network: pooling, dilation, dropout, stochastic depth, DropBlock, initial scales of norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias, assert_never

from resnet_spec.language.options import Options, Pool
from resnet_spec.language.spec import Join
from resnet_spec.language.values import join_alternatives
from resnet_spec.network.features import find_factors
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.traversal import map_parts, walk
from resnet_spec.ops import (
    BatchNorm,
    Conv,
    DropBlock,
    Dropout,
    DropPath,
    EvoNormS0,
    FilterResponseNorm,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    Linear,
    Op,
    RmsNorm,
    Scale,
    Shape,
    ShapeError,
    StandardizedConv,
    per_axis,
)
from resnet_spec.transforms.dilation import with_dilation

Norm: TypeAlias = BatchNorm | GroupNorm | LayerNorm | RmsNorm | EvoNormS0 | FilterResponseNorm


class OptionError(ValueError):
    """An option that a network cannot have.

    Attributes:
        option: The name of the option.
        has_effect: Whether the option would change the network.
        help: What to do about it, or "".
    """

    def __init__(self, message: str, option: str, has_effect: bool, help: str = "") -> None:
        super().__init__(message)
        self.option = option
        self.has_effect = has_effect
        self.help = help


class _NoEffectError(ValueError):
    """What an option would change and the network lacks."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.help = help


def with_options(network: Network, options: Options) -> Network:
    """Return the network with options applied.

    Raises OptionError if one does not fit the network, or finds nothing to change: a network that lacks what its
    options ask for would be another one than intended.
    """
    for option, apply in _TRANSFORMS.items():
        value = getattr(options, option)
        if value == getattr(Options(), option):
            continue
        try:
            network = apply(network, value)
        except _NoEffectError as error:
            raise OptionError(f"{option} has no effect: {error}", option, False, error.help) from None
        except ShapeError as error:
            raise OptionError(f"the network can't have this {option}: {error}", option, True, error.help) from None
    return network


def _with_output_stride(network: Network, output_stride: int) -> Network:
    dilated = with_dilation(network, output_stride)
    if find_factors(dilated.parts)[-1] != output_stride:
        possible = join_alternatives(map(str, find_factors(network.parts)))
        raise _NoEffectError(f"no feature map shrinks by {output_stride}", f"it can be {possible}")
    return dilated


# -- blocks -------------------------------------------------------------------------------------------------------


BranchChange: TypeAlias = Callable[[str, Row, Shape], Row]
"""Takes a branch that is added to a shortcut, with the start of paths for new layers beside it, and its input shape.

Returns the branch, or the same one if there is nothing to change.
"""


def _map_branches(network: Network, changes: Mapping[str, BranchChange], missing: str) -> Network:
    """Return the network with branches changed that are added to a shortcut, by the path of the block they are in.

    Raises _NoEffectError, with ``missing``, if nothing is changed.
    """
    changed = map_parts(
        network.parts, lambda part: _change_block(part, changes[part.path]) if part.path in changes else part
    )
    if changed == network.parts:
        raise _NoEffectError(missing)
    return replace(network, parts=changed)


def _change_block(part: Part, change: BranchChange) -> Part:
    """Return a block with the branches changed that it adds to shortcuts, outside of blocks inside it."""
    match part:
        case Residual(combine="add"):
            inner = part.before[-1].output_shape if part.before else part.input_shape
            return replace(part, branch=change(f"{part.path}.", part.branch, inner))
        case Chain():
            return part.with_rows([tuple(_change_block(inner, change) for inner in part.parts)])
        case Parallel(combine="add", branches=rows, split=False, collect=False) if any(map(_is_shortcut, rows)):
            change_row = partial(change, f"{part.path}_")
            return part.with_rows([row if _is_shortcut(row) else change_row(row, part.input_shape) for row in rows])
        case _:
            return part


def _is_shortcut(row: Row) -> bool:
    """Return whether a parallel branch passes its input on, unchanged or scaled."""
    return all(isinstance(part, Leaf) and isinstance(part.op, Scale) for part in row)


def _block_paths(network: Network) -> list[str]:
    """Return the paths of all blocks in the stages, including those without a shortcut."""
    return [path for stage in network.stages for path in stage.blocks]


def _with_drop_path(network: Network, rate: float) -> Network:
    blocks, paths = _block_paths(network), _paths(network)

    def drop(number: int) -> BranchChange:
        op = DropPath(rate * number / max(1, len(blocks) - 1))

        def change(prefix: str, branch: Row, input_shape: Shape) -> Row:
            shape = branch[-1].output_shape if branch else input_shape
            return (*branch, _new_leaf(paths, f"{prefix}drop_path", op, shape))

        return change

    changes = {path: drop(number) for number, path in enumerate(blocks) if number}
    return _map_branches(network, changes, "no stage has a second residual block")


def _with_drop_block(network: Network, rate: float) -> Network:
    # These are timm's sizes and factors, for the second to last stage and for the last.
    ops = [DropBlock(rate, 5, 0.25), DropBlock(rate, 3)]
    paths = _paths(network)

    def drop(op: DropBlock) -> BranchChange:
        return lambda _, branch, shape: _insert_after_wide(paths, branch, op, "before the convolution")[0]

    stages = zip(reversed(network.stages), reversed(ops), strict=False)
    changes = {path: drop(op) for stage, op in stages for path in stage.blocks}
    missing = "no residual block of the last two stages has a norm after a convolution larger than 1 x 1"
    return _map_branches(network, changes, missing)


Progress: TypeAlias = Literal["before the convolution", "before the norm", "done"]


def _insert_after_wide(paths: frozenset[str], row: Row, drop: Op, progress: Progress) -> tuple[Row, Progress]:
    """Insert an operation after the norm that follows the first convolution larger than 1 x 1; return the progress."""
    done: list[Part] = []
    for part in row:
        done.append(part)
        if progress == "done":
            continue
        match part:
            case Leaf(op=Conv(kernel=kernel) | StandardizedConv(kernel=kernel)) if max(per_axis(kernel)) > 1:
                progress = "before the norm"
            case Leaf(op=op) if isinstance(op, Norm) and progress == "before the norm":
                done.append(_new_leaf(paths, f"{part.path.rpartition('.')[0]}.drop_block", drop, part.output_shape))
                progress = "done"
            case Chain() | Residual():  # of a block inside the branch, only the layers before its own branch
                first, *others = part.rows
                first, progress = _insert_after_wide(paths, first, drop, progress)
                done[-1] = part.with_rows((first, *others))
            case _:
                pass
    return tuple(done), progress


def _with_zero_gamma(network: Network, _: bool) -> Network:
    def change(_: str, branch: Row, shape: Shape) -> Row:
        return _zero_last_gamma(branch)[0]

    missing = "no residual block of a stage has a norm with a scale in its branch"
    return _map_branches(network, dict.fromkeys(_block_paths(network), change), missing)


def _zero_last_gamma(row: Row) -> tuple[Row, bool]:
    """Return the row with the initial scale of its last norm set to zero, and whether there is such a norm."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        match part:
            case Leaf(op=op) if isinstance(op, Norm):
                if not getattr(op, "affine", True):
                    return row, False
                return (*row[:index], replace(part, op=replace(op, gamma=0.0)), *row[index + 1 :]), True
            case Chain():
                inner, found = _zero_last_gamma(part.parts)
                if found:
                    return (*row[:index], replace(part, parts=inner), *row[index + 1 :]), True
            case _:
                pass
    return row, False


# -- the head -----------------------------------------------------------------------------------------------------


def _with_pool(network: Network, pool: Pool) -> Network:
    return infer_shapes(_replace_in_head(network, _is_pool, _pool_by(pool), "pool"))


def _with_dropout(network: Network, rate: float) -> Network:
    """Return the network with a dropout before its classifier, in place of one that the spec has there."""
    paths = _paths(network)

    def change(before: Row, leaf: Leaf) -> Row:
        kept = _without_dropout(before)
        holder = leaf.path.rpartition(".")[0]
        taken = paths - {part.path for part in before if part not in kept}
        drop = _new_leaf(taken, f"{holder}.drop" if holder else "drop", Dropout(rate), leaf.input_shape)
        return (*kept, replace(drop, span=leaf.span), leaf)

    return _replace_in_head(network, _is_classifier, change, "classifier")


def _without_dropout(row: Row) -> Row:
    """Return the row without a dropout at its end, which a flatten may follow."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        if isinstance(part, Leaf) and isinstance(part.op, Dropout):
            return (*row[:index], *row[index + 1 :])
        if not (isinstance(part, Leaf) and isinstance(part.op, Flatten)):
            break
    return row


Change: TypeAlias = Callable[[Row, Leaf], Row]
"""Takes the parts of a row before an operation, and the operation; returns what replaces them."""


def _replace_in_head(network: Network, wanted: Callable[[Op], bool], change: Change, name: str) -> Network:
    """Return the network with the last ``wanted`` operation of its head replaced.

    The head is what follows the stages, or everything if there are none. Raises _NoEffectError if it has no such
    operation.
    """
    start = _head_start(network)
    head = _replace_last(network.parts[start:], wanted, change)
    if head is None:
        raise _NoEffectError(f"the network has no {name} in its head")
    return replace(network, parts=(*network.parts[:start], *head))


def _head_start(network: Network) -> int:
    """Return the index of the first part of the head."""
    blocks = set(_block_paths(network))
    holds_block = (any(inner.path in blocks for inner in walk((part,))) for part in network.parts)
    return max((index + 1 for index, holds in enumerate(holds_block) if holds), default=0)


def _replace_last(row: Row, wanted: Callable[[Op], bool], change: Change) -> Row | None:
    """Return the row with its last ``wanted`` operation outside of blocks replaced; None if there is none."""
    for index in range(len(row) - 1, -1, -1):
        part = row[index]
        if isinstance(part, Leaf) and wanted(part.op):
            return (*change(row[:index], part), *row[index + 1 :])
        if isinstance(part, Chain) and (inner := _replace_last(part.parts, wanted, change)) is not None:
            return (*row[:index], replace(part, parts=inner), *row[index + 1 :])
    return None


def _is_pool(op: Op) -> bool:
    return isinstance(op, GlobalAvgPool | GlobalMaxPool)


def _is_classifier(op: Op) -> bool:
    return isinstance(op, Linear | Conv)


def _pool_by(pool: Pool) -> Change:
    def change(before: Row, leaf: Leaf) -> Row:
        return (*before, _pooled_by(pool, leaf))

    return change


def _pooled_by(pool: Pool, leaf: Leaf) -> Part:
    """Return a pool, or two in parallel, in place of one."""
    keep = getattr(leaf.op, "keepdims", False)
    mean, maximum = GlobalAvgPool(keep), GlobalMaxPool(keep)
    match pool:
        case "as_written":
            return leaf
        case "avg":
            return replace(leaf, op=mean)
        case "max":
            return replace(leaf, op=maximum)
        case "avg_max":
            return _both(leaf, mean, maximum, "mean")
        case "avg_max_concat":
            return _both(leaf, mean, maximum, "concat")
        case _:
            assert_never(pool)


def _both(leaf: Leaf, mean: Op, maximum: Op, combine: Join) -> Chain:
    """Return two parallel pools in place of one."""
    branches = tuple(
        (replace(leaf, path=f"{leaf.path}.{name}", op=op),) for name, op in (("avg", mean), ("max", maximum))
    )
    shapes = leaf.input_shape, leaf.output_shape
    both = Parallel(f"{leaf.path}.both", branches, False, False, combine, *shapes, span=leaf.span)
    return Chain(leaf.path, (both,), *shapes, leaf.span)


def _paths(network: Network) -> frozenset[str]:
    return frozenset(part.path for part in network.nodes())


def _new_leaf(paths: frozenset[str], path: str, op: Op, shape: Shape) -> Leaf:
    """Return a part with an operation that keeps the shape. Raises ShapeError if its path is taken."""
    if path in paths:
        raise ShapeError(f"the network already has a part at {path}")
    return Leaf(path, op, shape, shape)


_TRANSFORMS: dict[str, Callable[[Network, Any], Network]] = {
    "pool": _with_pool,
    "output_stride": _with_output_stride,
    "zero_last_gamma": _with_zero_gamma,
    "drop_block": _with_drop_block,
    "drop_path": _with_drop_path,
    "dropout": _with_dropout,
}
"""The options, in the order in which they are applied, each with a function of a network and the option's value."""
