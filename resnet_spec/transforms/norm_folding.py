"""A network and its weights for evaluation alone: norms become part of what stands beside them, what only training needs goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias, assert_never

import numpy as np

from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
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
    Affine,
    After,
    Before,
    Own,
    absorb_following,
    absorb_preceding,
    batch_norm_affine,
    standardize_kernels,
)
from resnet_spec.weights.canonical import Array

Row: TypeAlias = tuple[Part, ...]
"""Parts that run one after another."""

Plan: TypeAlias = list[tuple[Leaf, bool]] | None
"""The operations that a scale and a shift can become part of, each with whether it takes the shift too; None if there are none."""

Beyond: TypeAlias = Callable[[], Plan]
"""The plan for what lies beyond the end of a row."""


def fold_norms(network: Network, weights: Mapping[str, Array]) -> tuple[Network, dict[str, Array]]:
    """The same function of images in evaluation, by fewer operations: another network and its weights, under the names they had.

    A batch norm becomes part of the convolution or norm before it; or of the convolution or linear after it, if that pads with no
    zeros. Where neither can be it stays. Kernels are standardised once and for all. Dropping out and the identity go. What changes is
    worked out in float64, and rounded to its own type. What the network's ``outputs`` give stays as it was.

    >>> from resnet_spec import load
    >>> from resnet_spec.weights.canonical import initialize
    >>> network = load("resnet18")
    >>> small, weights = fold_norms(network, draw(network))
    >>> len(list(network.leaves())), len(list(small.leaves())), list(weights)[:2]
    (60, 40, ['conv1.weight', 'conv1.bias'])
    """
    folding = _Folding(dict(weights), network.outputs)
    for leaf in network.leaves():
        if isinstance(leaf.op, StandardizedConv):
            folding.take(leaf, *standardize_kernels(leaf.op, folding.own(leaf)))
    folding.backwards(network.parts, _nowhere)
    folding.forwards(network.parts, _nowhere)
    small = replace(network, parts=folding.left(network.parts, keep=True))
    return small, {name: folding.weights[name] for name in small.weights()}


class _Folding:
    """What has become of the operations so far, and their weights."""

    def __init__(self, weights: dict[str, Array], outputs: Collection[str]) -> None:
        self.weights = weights
        self.outputs = outputs
        self.changed: dict[str, Op | None] = {}  # by path; None is gone

    def backwards(self, parts: Row, before: Beyond) -> None:
        """Make the norms in a row part of what stands before them."""
        for place, part in enumerate(parts):
            here = partial(self.ends, parts[:place], before)
            match part:
                case Leaf():
                    if isinstance(part.op, BatchNorm):
                        self.spread(part, here(), self.after)
                case Chain():
                    self.backwards(part.parts, here)
                case Residual():
                    alone = (
                        part.reads == "before"
                    )  # nothing else reads x, or else nothing else what comes before the branch
                    self.backwards(part.before, here if alone else _nowhere)
                    self.backwards(part.branch, _nowhere if alone else partial(self.ends, part.before, _nowhere))
                    self.backwards(part.shortcut, _nowhere)
                    self.backwards(part.after, partial(self.sum_ends, part))
                case Parallel():
                    for branch in part.branches:
                        self.backwards(branch, _nowhere)
                case _:
                    assert_never(part)

    def forwards(self, parts: Row, after: Beyond) -> None:
        """Make the norms that are left in a row part of what stands after them."""
        for place, part in enumerate(parts):
            here = partial(self.starts, parts[place + 1 :], after)
            match part:
                case Leaf():
                    if isinstance(part.op, BatchNorm) and not self.gone(part) and part.path not in self.outputs:
                        self.spread(part, here(), self.before)
                case Chain():
                    self.forwards(part.parts, _nowhere if part.path in self.outputs else here)
                case Residual():
                    self.forwards(part.before, partial(self.sides_start, part))
                    self.forwards(part.branch, _nowhere)
                    self.forwards(part.shortcut, _nowhere)
                    self.forwards(part.after, _nowhere if part.path in self.outputs else here)
                case Parallel():
                    for branch in part.branches:
                        self.forwards(branch, _nowhere)
                case _:
                    assert_never(part)

    def ends(self, parts: Row, before: Beyond) -> Plan:
        """What a scale and a shift after a row can become part of."""
        if not parts:
            return before()
        *rest, last = parts
        if last.path in self.outputs:
            return None
        beyond = partial(self.ends, tuple(rest), before)
        match last:
            case Leaf():
                op = self.op(last)
                if self.gone(last) or _commutes(last.op):
                    return beyond()
                return [(last, True)] if isinstance(op, Before) else None
            case Chain():
                return self.ends(last.parts, beyond)
            case Residual():
                return self.ends(last.after, partial(self.sum_ends, last))
            case Parallel():
                return None
            case _:
                assert_never(last)

    def sum_ends(self, block: Residual) -> Plan:
        """The same for a block's sum: both sides are scaled, and one is shifted."""
        branch, shortcut = (self.ends(side, _nowhere) for side in (block.branch, block.shortcut))
        if block.combine != "add" or branch is None or shortcut is None:
            return None
        return branch + [(leaf, False) for leaf, _ in shortcut]

    def starts(self, parts: Row, after: Beyond) -> Plan:
        """What a scale and a shift before a row can become part of. Zeros that pad are neither scaled nor shifted."""
        if not parts:
            return after()
        first, *rest = parts
        beyond = _nowhere if first.path in self.outputs else partial(self.starts, tuple(rest), after)
        match first:
            case Leaf():
                op = self.op(first)
                if self.gone(first) or _commutes(first.op) or isinstance(op, Flatten):
                    return beyond()
                whole = isinstance(op, Linear) or (isinstance(op, Conv) and not op.padding)
                return [(first, True)] if whole else None
            case Chain():
                return self.starts(first.parts, beyond)
            case Residual():
                x = self.starts(first.before, partial(self.sides_start, first))
                return x if first.reads == "before" else _both(x, self.starts(first.shortcut, _nowhere))
            case Parallel():
                return None
            case _:
                assert_never(first)

    def sides_start(self, block: Residual) -> Plan:
        """The same for what a block's branch reads, and perhaps its shortcut."""
        branch = self.starts(block.branch, _nowhere)
        return _both(branch, self.starts(block.shortcut, _nowhere)) if block.reads == "before" else branch

    def gone(self, leaf: Leaf) -> bool:
        """Whether nothing is left of an operation; what does nothing in evaluation never was there."""
        does_nothing = isinstance(leaf.op, Dropout | DropPath | DropBlock | Identity)
        return does_nothing or self.op(leaf) is None

    def spread(self, norm: Leaf, plan: Plan, into: Callable[[Leaf, Affine, bool], None]) -> None:
        if plan is not None:
            op = self.op(norm)
            assert isinstance(op, BatchNorm)
            affine = batch_norm_affine(op, self.own(norm))
            for leaf, shifts in plan:
                into(leaf, affine, shifts)
            self.changed[norm.path] = None

    def after(self, leaf: Leaf, affine: Affine, shifts: bool) -> None:
        op = self.op(leaf)
        assert isinstance(op, Before)
        self.take(leaf, *absorb_following(op, self.own(leaf), affine, shifts=shifts))

    def before(self, leaf: Leaf, affine: Affine, _: bool) -> None:
        op = self.op(leaf)
        assert isinstance(op, After)
        self.take(leaf, *absorb_preceding(op, self.own(leaf), affine))

    def op(self, leaf: Leaf) -> Op | None:
        return self.changed.get(leaf.path, leaf.op)

    def own(self, leaf: Leaf) -> Own:
        """A leaf's weights, in float64."""
        op = self.op(leaf)
        assert op is not None
        names = {weight.name for weight in op.weights(leaf.input_shape)}
        return {name: self.weights[f"{leaf.path}.{name}"].astype(np.float64) for name in names}

    def take(self, leaf: Leaf, op: Op, own: Own) -> None:
        """Make an operation another, by other weights, of the type that its weights have."""
        dtype = next(self.weights[f"{leaf.path}.{weight.name}"].dtype for weight in leaf.op.weights(leaf.input_shape))
        self.weights |= {f"{leaf.path}.{name}": array.astype(dtype) for name, array in own.items()}
        self.changed[leaf.path] = op

    def left(self, parts: Row, *, keep: bool = False) -> Row:
        """What is left of a row; where something must be, the identity, if nothing else is."""
        found = tuple(left for part in parts if (left := self.part(part)))
        return found if found or not parts or not keep else (_nothing(parts[0]),)

    def part(self, part: Part) -> Part | None:
        match part:
            case Leaf():
                if self.gone(part):
                    return _nothing(part) if part.path in self.outputs else None
                return replace(part, op=self.changed.get(part.path) or part.op)
            case Chain():
                parts = self.left(part.parts, keep=part.path in self.outputs)
                return replace(part, parts=parts) if parts else None
            case Residual():
                small = replace(part, before=self.left(part.before), branch=self.left(part.branch, keep=True))
                small = replace(small, shortcut=self.left(part.shortcut), after=self.left(part.after))
                small = small if small.before else replace(small, reads="input")  # the same then
                return replace(small, order=tuple(role for role in part.order if small.section(role)))
            case Parallel():
                return replace(part, branches=tuple(self.left(branch, keep=True) for branch in part.branches))
            case _:
                assert_never(part)


def _nothing(part: Part) -> Part:
    """The identity in a part's place."""
    match part:
        case Leaf():
            return replace(part, op=Identity())
        case Chain():
            return replace(part, parts=(_nothing(part.parts[0]),))
        case _:
            return part  # of a block something is always left


def _nowhere() -> Plan:
    return None


def _both(one: Plan, other: Plan) -> Plan:
    return None if one is None or other is None else one + other


def _commutes(op: Op) -> bool:
    """Whether a scale and a shift of each channel may as well come before the operation as after it."""
    match op:
        case AvgPool(padding=padding, count_padding=count_padding):
            return not (padding and count_padding)
        case BlurPool() | GlobalAvgPool():
            return True
        case _:
            return False
