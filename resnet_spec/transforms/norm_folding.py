"""Fold batch norms into neighbouring operations, for evaluation: fewer operations that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias, assert_never

import numpy as np

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    BlurPool,
    Conv,
    DropBlock,
    Dropout,
    DropPath,
    Flatten,
    GlobalAvgPool,
    Identity,
    Linear,
    Op,
    StandardizedConv,
)
from resnet_spec.transforms.affine import (
    AbsorbsFollowing,
    AbsorbsPreceding,
    Affine,
    OperationWeights,
    absorb_following,
    absorb_preceding,
    batch_norm_affine,
    standardize_kernels,
)
from resnet_spec.weights.canonical import Array

Targets: TypeAlias = list[tuple[Leaf, bool]] | None
"""Operations that absorb a scale and a shift, each with whether it takes the shift too; None if none can do so."""

Search: TypeAlias = Callable[[], Targets]
"""Finds targets beyond the end of a row."""


def fold_norms(network: Network, weights: Mapping[str, Array]) -> tuple[Network, dict[str, Array]]:
    """Return a network with fewer operations that computes the same function in evaluation mode, and its weights.

    A batch norm is absorbed by the convolution or norm before it, or by an unpadded convolution or linear layer after
    it; otherwise it stays. Kernels of standardised convolutions are standardised. Dropout and identities are removed.
    Weights keep their names and types; new values are computed in float64. The values of ``outputs`` do not change.

    >>> from resnet_spec import load
    >>> from resnet_spec.weights.canonical import initialize
    >>> network = load("resnet18")
    >>> smaller, weights = fold_norms(network, initialize(network))
    >>> len(list(network.leaves())), len(list(smaller.leaves())), list(weights)[:2]
    (60, 40, ['conv1.weight', 'conv1.bias'])
    """
    folding = _Folding(dict(weights), network.outputs)
    for leaf in network.leaves():
        if isinstance(leaf.op, StandardizedConv):
            folding.set_operation(leaf, *standardize_kernels(leaf.op, folding.weights_of(leaf), leaf.input_shape))
    folding.fold_backwards(network.parts, _find_nothing)
    folding.fold_forwards(network.parts, _find_nothing)
    smaller = replace(network, parts=folding.remaining_row(network.parts, keep_one=True), full=None)
    return smaller, {name: folding.weights[name] for name in smaller.weights()}


class _Folding:
    """The state of folding: all weights, and the operations that changed so far by path, with None for removed ones."""

    def __init__(self, weights: dict[str, Array], outputs: Collection[str]) -> None:
        self.weights = weights
        self.outputs = outputs
        self.changed: dict[str, Op | None] = {}

    # -- folding norms into operations before or after them ---------------------------------------------------------

    def fold_backwards(self, row: Row, before: Search) -> None:
        """Fold the batch norms of a row into operations before them; ``before`` looks for targets before the row."""
        for index, part in enumerate(row):
            here = partial(self.last_targets, row[:index], before)
            match part:
                case Leaf():
                    if isinstance(part.op, BatchNorm):
                        self.fold(part, here(), self.absorb_after)
                case Chain():
                    self.fold_backwards(part.parts, here)
                case Residual():
                    # A tensor that two sides read must not change. That is x if the shortcut reads it, and the output
                    # of ``before`` if both branch and shortcut read it.
                    if part.reads == "before":
                        self.fold_backwards(part.before, here)
                        self.fold_backwards(part.branch, _find_nothing)
                    else:
                        self.fold_backwards(part.before, _find_nothing)
                        self.fold_backwards(part.branch, partial(self.last_targets, part.before, _find_nothing))
                    self.fold_backwards(part.shortcut, _find_nothing)
                    self.fold_backwards(part.after, partial(self.sum_targets, part))
                case Parallel():
                    for branch in part.branches:
                        self.fold_backwards(branch, _find_nothing)
                case _:
                    assert_never(part)

    def fold_forwards(self, row: Row, after: Search) -> None:
        """Fold the batch norms left in a row into operations after them; ``after`` looks for targets after the row."""
        for index, part in enumerate(row):
            here = partial(self.first_targets, row[index + 1 :], after)
            beyond = _find_nothing if part.path in self.outputs else here
            match part:
                case Leaf():
                    if isinstance(part.op, BatchNorm) and not self.is_gone(part) and part.path not in self.outputs:
                        self.fold(part, here(), self.absorb_before)
                case Chain():
                    self.fold_forwards(part.parts, beyond)
                case Residual():
                    self.fold_forwards(part.before, partial(self.side_targets, part))
                    self.fold_forwards(part.branch, _find_nothing)
                    self.fold_forwards(part.shortcut, _find_nothing)
                    self.fold_forwards(part.after, beyond)
                case Parallel():
                    for branch in part.branches:
                        self.fold_forwards(branch, _find_nothing)
                case _:
                    assert_never(part)

    def last_targets(self, row: Row, before: Search) -> Targets:
        """Return the targets for a scale and a shift that follow a row."""
        if not row:
            return before()
        *rest, last = row
        if last.path in self.outputs:
            return None
        beyond = partial(self.last_targets, tuple(rest), before)
        match last:
            case Leaf():
                op = self.current(last)
                if self.is_gone(last) or _commutes(last.op):
                    return beyond()
                return [(last, True)] if isinstance(op, AbsorbsFollowing) else None
            case Chain():
                return self.last_targets(last.parts, beyond)
            case Residual():
                return self.last_targets(last.after, partial(self.sum_targets, last))
            case Parallel():
                return None
            case _:
                assert_never(last)

    def sum_targets(self, block: Residual) -> Targets:
        """Return the targets for a scale and a shift after a block's sum: both sides are scaled, one is shifted."""
        branch, shortcut = (self.last_targets(side, _find_nothing) for side in (block.branch, block.shortcut))
        if block.combine != "add" or branch is None or shortcut is None:
            return None
        return branch + [(leaf, False) for leaf, _ in shortcut]

    def first_targets(self, row: Row, after: Search) -> Targets:
        """Return the targets for a scale and a shift before a row. Zero padding would be neither scaled nor shifted."""
        if not row:
            return after()
        first, *rest = row
        beyond = _find_nothing if first.path in self.outputs else partial(self.first_targets, tuple(rest), after)
        match first:
            case Leaf():
                op = self.current(first)
                if self.is_gone(first) or _commutes(first.op) or isinstance(op, Flatten):
                    return beyond()
                unpadded = isinstance(op, Linear) or (isinstance(op, Conv) and not op.padding)
                return [(first, True)] if unpadded else None
            case Chain():
                return self.first_targets(first.parts, beyond)
            case Residual():
                x = self.first_targets(first.before, partial(self.side_targets, first))
                return x if first.reads == "before" else _both(x, self.first_targets(first.shortcut, _find_nothing))
            case Parallel():
                return None
            case _:
                assert_never(first)

    def side_targets(self, block: Residual) -> Targets:
        """Return the targets for a scale and a shift of the tensor that a block's branch, or both its sides, read."""
        branch = self.first_targets(block.branch, _find_nothing)
        return _both(branch, self.first_targets(block.shortcut, _find_nothing)) if block.reads == "before" else branch

    def fold(self, norm: Leaf, targets: Targets, absorb: Callable[[Leaf, Affine, bool], None]) -> None:
        """Let the targets absorb a norm, and remove it; do nothing if there are no targets."""
        if targets is not None:
            op = self.current(norm)
            assert isinstance(op, BatchNorm)
            affine = batch_norm_affine(op, self.weights_of(norm))
            for leaf, shifts in targets:
                absorb(leaf, affine, shifts)
            self.changed[norm.path] = None

    def absorb_after(self, leaf: Leaf, affine: Affine, shifts: bool) -> None:
        op = self.current(leaf)
        assert isinstance(op, AbsorbsFollowing)
        self.set_operation(leaf, *absorb_following(op, self.weights_of(leaf), affine, with_shift=shifts))

    def absorb_before(self, leaf: Leaf, affine: Affine, _: bool) -> None:
        op = self.current(leaf)
        assert isinstance(op, AbsorbsPreceding)
        self.set_operation(leaf, *absorb_preceding(op, self.weights_of(leaf), affine))

    # -- operations and their weights -------------------------------------------------------------------------------

    def current(self, leaf: Leaf) -> Op | None:
        """Return a leaf's current operation; None if it is removed."""
        return self.changed.get(leaf.path, leaf.op)

    def is_gone(self, leaf: Leaf) -> bool:
        """Return whether an operation is removed: it was folded, or does nothing in evaluation."""
        return isinstance(leaf.op, Dropout | DropPath | DropBlock | Identity) or self.current(leaf) is None

    def weights_of(self, leaf: Leaf) -> OperationWeights:
        """Return a leaf's weights in float64."""
        op = self.current(leaf)
        assert op is not None
        names = {weight.name for weight in op.weights(leaf.input_shape)}
        return {name: self.weights[leaf.weight_path(name)].astype(np.float64) for name in names}

    def set_operation(self, leaf: Leaf, op: Op, own: OperationWeights) -> None:
        """Replace a leaf's operation and weights; the weights keep their type."""
        names = [leaf.weight_path(weight.name) for weight in leaf.op.weights(leaf.input_shape)]
        dtype = self.weights[names[0] if names else next(iter(self.weights))].dtype
        self.weights |= {leaf.weight_path(name): array.astype(dtype) for name, array in own.items()}
        self.changed[leaf.path] = op

    # -- what remains -----------------------------------------------------------------------------------------------

    def remaining_row(self, row: Row, *, keep_one: bool = False) -> Row:
        """Return the parts of a row that remain; if none do and ``keep_one`` is true, an identity."""
        parts = tuple(remaining for part in row if (remaining := self.remaining(part)))
        return (_identity(row[0]),) if keep_one and row and not parts else parts

    def remaining(self, part: Part) -> Part | None:
        """Return a part without removed operations, or None if nothing remains."""
        if isinstance(part, Leaf):
            if self.is_gone(part):
                return _identity(part) if part.path in self.outputs else None
            return replace(part, op=self.changed.get(part.path) or part.op)
        if isinstance(part, Chain):
            parts = self.remaining_row(part.parts, keep_one=part.path in self.outputs)
            return replace(part, parts=parts) if parts else None
        # A residual block needs a part in its branch, and parallel branches need one each.
        needed = (part.branch,) if isinstance(part, Residual) else part.branches
        return part.with_rows(tuple(self.remaining_row(row, keep_one=row in needed) for row in part.rows))


def _identity(part: Part) -> Part:
    """Return a part with only an identity, under the same path. A block is returned unchanged: it is never empty."""
    if isinstance(part, Leaf):
        return replace(part, op=Identity())
    return replace(part, parts=(_identity(part.parts[0]),)) if isinstance(part, Chain) else part


def _find_nothing() -> Targets:
    return None


def _both(first: Targets, second: Targets) -> Targets:
    return None if first is None or second is None else first + second


def _commutes(op: Op) -> bool:
    """Return whether a scale and a shift per channel can move from after an operation to before it."""
    match op:
        case AvgPool(padding=padding, count_padding=count_padding):
            return not (padding and count_padding)
        case BlurPool() | GlobalAvgPool():
            return True
        case _:
            return False
