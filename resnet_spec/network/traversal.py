"""Walk a tree of parts, rebuild it, or carry a value through it in the order in which its parts run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row

T = TypeVar("T")


def walk(row: Row) -> Iterator[Part]:
    """Yield parts and everything inside them, each part after its contents.

    >>> from resnet_spec import load
    >>> [part.path for part in walk(load("resnet18").part("layer1.0").rows[1])]
    ['layer1.0.conv1', 'layer1.0.bn1', 'layer1.0.relu1', 'layer1.0.conv2', 'layer1.0.bn2']
    """
    for part in row:
        for inner in part.rows:
            yield from walk(inner)
        yield part


def children(part: Part) -> Row:
    """Return the parts directly inside a part, in the order in which they run."""
    return tuple(chain.from_iterable(part.rows))


def map_parts(row: Row, change: Callable[[Part], Part]) -> Row:
    """Rebuild a row from the leaves up: ``change`` is called on each part after its contents were rebuilt."""
    return tuple(change(part.with_rows(tuple(map_parts(inner, change) for inner in part.rows))) for part in row)


def _repeat_input(part: Parallel, x: T) -> list[T]:
    return [x] * len(part.branches)


def _piece(part: Parallel, index: int, piece: T, previous: T) -> T:
    return piece


def _unchanged(x: T) -> T:
    return x


def _keep(part: Part, x: T, y: T) -> tuple[Part, T]:
    return part, y


@dataclass(frozen=True, slots=True)
class Rules(Generic[T]):
    """What each kind of part does to a value of type T that ``propagate`` carries through a network.

    Attributes:
        leaf: Takes an operation and its input; returns the operation, perhaps changed, and its output.
        combine: Takes a residual block, the output of its branch and that of its shortcut; returns their combination.
        join: Takes parallel branches, their common input and the outputs of all branches; returns the joined output.
        split: Takes parallel branches and their common input; returns the input of each branch. By default each reads
            the whole input.
        cascade: Takes parallel branches, the index of one of them, its piece of the input and the output of the
            previous branch; returns what the branch reads. Called only for cascades.
        enter_side: Changes a value that enters a shortcut or a parallel branch.
        leave: Takes any part, rebuilt, with its input and its output; returns the part and the output, perhaps changed.
    """

    leaf: Callable[[Leaf, T], tuple[Part, T]]
    combine: Callable[[Residual, T, T], T]
    join: Callable[[Parallel, T, list[T]], T]
    split: Callable[[Parallel, T], list[T]] = _repeat_input
    cascade: Callable[[Parallel, int, T, T], T] = _piece
    enter_side: Callable[[T], T] = _unchanged
    leave: Callable[[Part, T, T], tuple[Part, T]] = _keep


def propagate(row: Row, x: T, rules: Rules[T]) -> tuple[Row, T]:
    """Carry a value through parts that run one after another; return the rebuilt parts and the final value."""
    done: list[Part] = []
    for part in row:
        changed, y = _propagate_part(part, x, rules)
        changed, x = rules.leave(changed, x, y)
        done.append(changed)
    return tuple(done), x


def _propagate_part(part: Part, x: T, rules: Rules[T]) -> tuple[Part, T]:
    match part:
        case Leaf():
            return rules.leaf(part, x)
        case Chain():
            parts, y = propagate(part.parts, x, rules)
            return part.with_rows((parts,)), y
        case Residual():
            before, read = propagate(part.before, x, rules)
            branch, left = propagate(part.branch, read, rules)
            shortcut, right = propagate(part.shortcut, rules.enter_side(read if part.reads == "before" else x), rules)
            after, y = propagate(part.after, rules.combine(part, left, right), rules)
            return part.with_rows((before, branch, shortcut, after)), y
        case Parallel():
            rows: list[Row] = []
            outputs: list[T] = []
            for index, (branch, piece) in enumerate(zip(part.branches, rules.split(part, x), strict=True)):
                if part.collect and outputs:
                    piece = outputs[-1]
                if part.cascade and branch and outputs:
                    piece = rules.cascade(part, index, piece, outputs[-1])
                row, y = propagate(branch, rules.enter_side(piece), rules)
                rows.append(row)
                outputs.append(y)
            return part.with_rows(tuple(rows)), rules.join(part, x, outputs)
