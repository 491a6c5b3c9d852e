"""How two networks differ: their trees aligned by structure, part by part, and what that costs, stage by stage."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal, TypeAlias

from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain as Row
from resnet_spec.network.parts import Leaf, Parallel, Part
from resnet_spec.network.parts import Residual as Block
from resnet_spec.network.structure import Group, group_stages, non_default_arguments, path_range, relative_path
from resnet_spec.network.traversal import children
from resnet_spec.ops import Shape, op_name
from resnet_spec.views.table import format_shape

ChangeKind: TypeAlias = Literal["added", "removed", "changed", "renamed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. What merely follows from it, as a norm's channels from its convolution's, is not one.

    Attributes:
        path: The part in the second network, or in the first if the second lacks it; of blocks that change alike, all: layer1.0-2.se.
        times: How many blocks change alike.
        before: What it was, where it was.
        after: What it is, where it is.
    """

    kind: ChangeKind
    path: str
    before: str
    after: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class StageDiff:
    """A stem, stage or head, as it is in each network; None where one lacks it. ``gives`` are its shapes."""

    name: str
    parameters: tuple[int | None, int | None]
    macs: tuple[int | None, int | None]
    output_shape: tuple[Shape | None, Shape | None]


def diff_networks(one: Network, other: Network) -> list[Change]:
    """What differs from one network to another, in the order that it is run.

    >>> from resnet_spec import load
    >>> [(change.path, change.before, change.after) for change in diff_networks(load("resnet50"), load("resnext50_32x4d"))][:2]
    [('layer1.0-2.conv1', 'out: 64', 'out: 128'), ('layer1.0-2.conv2', 'out: 64, groups: 1', 'out: 128, groups: 32')]
    """
    found = (
        []
        if one.input == other.input
        else [Change("changed", "input", format_shape(one.input), format_shape(other.input))]
    )
    return [*found, *_diff_rows("", one.parts, "", other.parts)]


def diff_stages(one: Network, other: Network) -> list[StageDiff]:
    """What stem, stages and head cost in one network and in another."""
    pair = [[_stage_cost(network, group) for group in group_stages(network)] for network in (one, other)]
    names = [[stage.name for stage in side] for side in pair]
    found: list[StageDiff] = []
    for tag, a, b, c, d in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
        if tag == "equal":
            found += [_both(first, second) for first, second in zip(pair[0][a:b], pair[1][c:d], strict=True)]
        else:
            found += [_alone(stage, 0) for stage in pair[0][a:b]] + [_alone(stage, 1) for stage in pair[1][c:d]]
    return found


# -- trees -------------------------------------------------------------------------------------------------------------


def _diff_rows(above: str, one: Sequence[Part], beneath: str, other: Sequence[Part]) -> list[Change]:
    """The changes of parts in a row: those alike by name, or where they are numbered by kind, are compared."""
    labels = [_label(above, part) for part in one], [_label(beneath, part) for part in other]
    found: list[list[Change]] = []
    for tag, a, b, c, d in SequenceMatcher(None, *labels, autojunk=False).get_opcodes():
        if tag == "equal":
            found += [_diff_parts(above, *pair, beneath) for pair in zip(one[a:b], other[c:d], strict=True)]
        else:
            found += _diff_unmatched(above, one[a:b], beneath, other[c:d])
    return merge_repeats(found)


def _diff_unmatched(above: str, one: Sequence[Part], beneath: str, other: Sequence[Part]) -> Iterator[list[Change]]:
    """Parts in the place of others: renamed where they are of a kind, else taken away and put in."""
    kinds = [[_kind(part) for part in side] for side in (one, other)]
    for tag, a, b, c, d in SequenceMatcher(None, kinds[0], kinds[1], autojunk=False).get_opcodes():
        if tag == "equal":
            for first, second in zip(one[a:b], other[c:d], strict=True):
                named = Change(
                    "renamed", second.path, relative_path(above, first.path), relative_path(beneath, second.path)
                )
                yield [named, *_diff_parts(above, first, second, beneath)]
        else:
            yield from ([Change("removed", part.path, describe_part(part), "")] for part in one[a:b])
            yield from ([Change("added", part.path, "", describe_part(part))] for part in other[c:d])


def _diff_parts(above: str, one: Part, other: Part, beneath: str) -> list[Change]:
    match one, other:
        case Leaf(), Leaf():
            return _diff_leaves(one, other)
        case Row(), Row():
            return _diff_rows(one.path, one.parts, other.path, other.parts)
        case Block(), Block():
            return _diff_residuals(one, other)
        case Parallel(), Parallel() if len(one.branches) == len(other.branches):
            pairs = zip(one.branches, other.branches, strict=True)
            inside = [change for pair in pairs for change in _diff_rows(above, pair[0], beneath, pair[1])]
            return [*_diff_arguments(one, other, ("split", "cascade", "combine"), other.path), *inside]
        case _:
            return [Change("changed", other.path, describe_part(one), describe_part(other))]


def _diff_leaves(one: Leaf, other: Leaf) -> list[Change]:
    if one.op == other.op:
        return []
    if type(one.op) is not type(other.op):
        return [Change("changed", other.path, describe_part(one), describe_part(other))]
    names = [field.name for field in fields(one.op)]
    return _diff_arguments(one.op, other.op, names, other.path)


def _diff_arguments(one: object, other: object, names: Sequence[str], path: str) -> list[Change]:
    """The one change of those arguments that differ."""
    differing = [name for name in names if getattr(one, name) != getattr(other, name)]
    before, after = (", ".join(f"{name}: {getattr(of, name)}" for name in differing).lower() for of in (one, other))
    return [Change("changed", path, before, after)] if differing else []


def _diff_residuals(one: Block, other: Block) -> list[Change]:
    found = _diff_arguments(one, other, ("combine", "reads"), other.path)
    for role in ("before", "branch", "shortcut", "after"):
        found += _diff_rows(one.path, one.section(role), other.path, other.section(role))
    return found


def _label(above: str, part: Part) -> str:
    name = relative_path(above, part.path)
    return _kind(part) if name.isdigit() else name


def _kind(part: Part) -> str:
    return op_name(part.op) if isinstance(part, Leaf) else type(part).__name__


def describe_part(part: Part) -> str:
    """A part in a line: an operation with its arguments, or the operations in it."""
    match part:
        case Leaf():
            words = ", ".join(f"{name}: {value}" for name, value in non_default_arguments(part.op).items()).lower()
            return f"{op_name(part.op)} {{{words}}}" if words else op_name(part.op)
        case _:
            return ", ".join(_operations(part))


def _operations(part: Part) -> Iterator[str]:
    if isinstance(part, Leaf):
        yield op_name(part.op)
    for inner in children(part):
        yield from _operations(inner)


# -- blocks that change alike ------------------------------------------------------------------------------------------


def merge_repeats(found: list[list[Change]]) -> list[Change]:
    """Changes of parts in a row, those that are the same in one after another put together."""
    result: list[Change] = []
    for _, alike in groupby(found, lambda changes: [_without_numbers(change) for change in changes]):
        several = list(alike)
        for first, last in zip(several[0], several[-1], strict=True):
            path = path_range(first.path, last.path)
            before, after = first.before, first.after
            if first.kind == "renamed":
                before, after = path_range(first.before, last.before), path_range(first.after, last.after)
            result.append(Change(first.kind, path, before, after, first.times * len(several)))
    return result


def _without_numbers(change: Change) -> Hashable:
    """A change without the numbers in its names."""
    names = (change.path, change.before, change.after) if change.kind == "renamed" else (change.path,)
    bare = [".".join(word for word in name.split(".") if not word.isdigit()) for name in names]
    return change.kind, *bare, () if change.kind == "renamed" else (change.before, change.after)


# -- stages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StageCost:
    name: str
    parameters: int
    macs: int
    output_shape: Shape


def _stage_cost(network: Network, group: Group) -> _StageCost:
    found: dict[str, Cost] = compute_costs(network)
    parts = [found[part.path] for part in group.parts]
    return _StageCost(
        group.name, sum(one.parameters for one in parts), sum(one.macs for one in parts), group.output_shape
    )


def _both(one: _StageCost, other: _StageCost) -> StageDiff:
    return StageDiff(
        one.name, (one.parameters, other.parameters), (one.macs, other.macs), (one.output_shape, other.output_shape)
    )


def _alone(stage: _StageCost, side: int) -> StageDiff:
    if side == 0:
        return StageDiff(stage.name, (stage.parameters, None), (stage.macs, None), (stage.output_shape, None))
    return StageDiff(stage.name, (None, stage.parameters), (None, stage.macs), (None, stage.output_shape))
