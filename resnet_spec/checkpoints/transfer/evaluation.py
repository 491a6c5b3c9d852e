"""What networks compute in evaluation: networks with the same weights may still differ in strides, pools, activations.

Names, initial values and what only training uses do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import fields, replace

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.structure import non_default_arguments
from resnet_spec.ops import (
    DropBlock,
    Dropout,
    DropPath,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Identity,
    Op,
    RmsNorm,
    Scale,
    op_name,
)

TRAINING_ARGUMENTS = frozenset({"init", "gamma", "decay", "start", "variance"})
"""Arguments of operations on which their outputs in evaluation do not depend."""

TRAINING_OPS = (Identity, Dropout, DropPath, DropBlock)
"""Operations that do nothing in evaluation."""

_MAX_KINDS = 4


def describe_difference(first: Network, second: Network) -> str:
    """Return how the operations of the second network differ from the first's; "" if both compute the same.

    >>> from resnet_spec import load
    >>> describe_difference(load("resnet50"), load("timm/resnet50"))
    ''
    >>> describe_difference(load("resnet50"), load("paddleclas/ResNet50_adaptive_max_pool2d"))
    'global_max_pool instead of global_avg_pool'
    """
    if _row_key(first.parts) == _row_key(second.parts):
        return ""
    a, b = (Counter(map(_label, _iterate_ops(network.parts))) for network in (first, second))
    if a == b:
        return "the same operations in another order"
    there, here = _list_kinds(a - b), _list_kinds(b - a)
    if not there:
        return f"{here} more"
    return f"{here} instead of {there}" if here else f"without {there}"


def _row_key(row: Row) -> tuple[Hashable, ...]:
    """Return a key that is equal for rows that compute the same."""
    keys: list[Hashable] = []
    for part in _inline(row):
        match part:
            case Leaf():
                keys.append(_without_training(part.op))
            case Residual():
                reads = part.reads if part.before else "input"
                keys.append(("residual", part.combine, reads, *map(_row_key, part.rows)))
            case Parallel():
                order = (part.combine, part.pieces, part.cascade, part.collect, part.resize)
                keys.append((*order, *map(_row_key, part.branches)))
    return tuple(keys)


def _inline(row: Row) -> Iterator[Part]:
    """Yield parts with those of chains in their place, without operations that do nothing in evaluation."""
    before: Part | None = None
    for part in _open_chains(row):
        if isinstance(part, Leaf) and isinstance(part.op, TRAINING_OPS):
            continue
        # A global pool that keeps its axes and a flattening compute what one without axes does.
        if isinstance(part, Leaf) and isinstance(part.op, Flatten) and before is not None and _pools_globally(before):
            continue
        yield part
        before = part


def _open_chains(row: Row) -> Iterator[Part]:
    for part in row:
        if isinstance(part, Chain):
            yield from _open_chains(part.parts)
        else:
            yield part


def _pools_globally(part: Part) -> bool:
    return isinstance(part, Leaf) and isinstance(part.op, GlobalAvgPool | GlobalMaxPool)


def _without_training(op: Op) -> Op:
    """Return an operation with defaults for what only training and initialisation use."""
    defaults = {item.name: item.default for item in fields(op) if item.name in TRAINING_ARGUMENTS}
    if isinstance(op, RmsNorm):
        del defaults["variance"]  # here it says what is computed, and not which running statistic is kept
    if isinstance(op, Scale) and op.learned:
        defaults["factor"] = 1.0  # where it starts
    if isinstance(op, GlobalAvgPool | GlobalMaxPool):
        defaults["keepdims"] = False
    return replace(op, **defaults) if defaults else op  # type: ignore[arg-type]


def _iterate_ops(row: Row) -> Iterator[Op]:
    for part in _inline(row):
        if isinstance(part, Leaf):
            yield _without_training(part.op)
        for inner in part.rows:
            yield from _iterate_ops(inner)


def _label(op: Op) -> str:
    arguments = {name: value for name, value in non_default_arguments(op).items() if name != "out"}
    text = ", ".join(f"{name}: {value}" for name, value in arguments.items())
    return f"{op_name(op)} {{{text}}}" if text else op_name(op)


def _list_kinds(counts: Counter[str]) -> str:
    """List operations with their counts, as in "4 blur_pool, max_pool {kernel: 3}"."""
    kinds = [label if count == 1 else f"{count} {label}" for label, count in counts.items()]
    rest = [f"{len(kinds) - _MAX_KINDS} more kinds"] if len(kinds) > _MAX_KINDS else []
    return ", ".join([*kinds[:_MAX_KINDS], *rest])
