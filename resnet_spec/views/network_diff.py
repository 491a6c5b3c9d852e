"""The differences between two networks: trees aligned by structure, and the costs of their stages side by side."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal, TypeAlias

from resnet_spec.network.costs import compute_costs
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.network.structure import group_stages, non_default_arguments, path_range, relative_path
from resnet_spec.network.traversal import children
from resnet_spec.ops import Shape, op_name
from resnet_spec.views.table import format_shape

ChangeKind: TypeAlias = Literal["added", "removed", "changed", "renamed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. What only follows from another difference, such as the channels of the next norm, is not listed.

    Attributes:
        kind: What happened from the first network to the second.
        path: The part in the second network, or in the first if the second lacks it. Blocks that change in the same
            way share one path: layer1.0-2.se.
        before: The part, its arguments or its name in the first network; empty if it was added.
        after: The same in the second network; empty if it was removed.
        times: How many blocks change in this way.
    """

    kind: ChangeKind
    path: str
    before: str
    after: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class StageDiff:
    """The costs and output shape of a stem, stage or head in both networks; None where a network lacks it."""

    name: str
    parameters: tuple[int | None, int | None]
    macs: tuple[int | None, int | None]
    output_shape: tuple[Shape | None, Shape | None]


def diff_networks(first: Network, second: Network) -> list[Change]:
    """Return the changes from one network to another, in the order in which the parts run.

    >>> from resnet_spec import load
    >>> found = diff_networks(load("resnet50"), load("resnext50_32x4d"))
    >>> [(change.path, change.before, change.after) for change in found][:2]
    [('layer1.0-2.conv1', 'out: 64', 'out: 128'), ('layer1.0-2.conv2', 'out: 64, groups: 1', 'out: 128, groups: 32')]
    """
    changes = _diff_rows("", first.parts, "", second.parts)
    if first.input == second.input:
        return changes
    return [Change("changed", "input", format_shape(first.input), format_shape(second.input)), *changes]


def diff_stages(first: Network, second: Network) -> list[StageDiff]:
    """Return the costs of the stem, stages and head of both networks, matched by name."""
    costs = _stage_costs(first), _stage_costs(second)
    names = [[stage.name for stage in side] for side in costs]
    result: list[StageDiff] = []
    for tag, a, b, c, d in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
        if tag == "equal":
            result += [_stage_diff(*pair) for pair in zip(costs[0][a:b], costs[1][c:d], strict=True)]
        else:
            result += [_stage_diff(stage, None) for stage in costs[0][a:b]]
            result += [_stage_diff(None, stage) for stage in costs[1][c:d]]
    return result


# -- trees -------------------------------------------------------------------------------------------------------------


def _diff_rows(first_path: str, first: Sequence[Part], second_path: str, second: Sequence[Part]) -> list[Change]:
    """Return the changes between two rows of parts, matched by name, or by kind where the names are numbers."""
    labels = [_label(first_path, part) for part in first], [_label(second_path, part) for part in second]
    changes: list[list[Change]] = []
    for tag, a, b, c, d in SequenceMatcher(None, *labels, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs = zip(first[a:b], second[c:d], strict=True)
            changes += [_diff_parts(first_path, *pair, second_path) for pair in pairs]
        else:
            changes += _diff_unmatched(first_path, first[a:b], second_path, second[c:d])
    return merge_repeats(changes)


def _diff_unmatched(
    first_path: str, first: Sequence[Part], second_path: str, second: Sequence[Part]
) -> Iterator[list[Change]]:
    """Yield the changes between parts of different names: renamed if their kinds align, else removed and added."""
    kinds = [[_kind(part) for part in side] for side in (first, second)]
    for tag, a, b, c, d in SequenceMatcher(None, kinds[0], kinds[1], autojunk=False).get_opcodes():
        if tag == "equal":
            for old, new in zip(first[a:b], second[c:d], strict=True):
                names = relative_path(first_path, old.path), relative_path(second_path, new.path)
                yield [Change("renamed", new.path, *names), *_diff_parts(first_path, old, new, second_path)]
        else:
            yield from ([Change("removed", part.path, describe_part(part), "")] for part in first[a:b])
            yield from ([Change("added", part.path, "", describe_part(part))] for part in second[c:d])


def _diff_parts(first_path: str, first: Part, second: Part, second_path: str) -> list[Change]:
    if isinstance(first, Leaf) and isinstance(second, Leaf):
        return _diff_leaves(first, second)
    if type(first) is not type(second) or len(first.rows) != len(second.rows):
        return [Change("changed", second.path, describe_part(first), describe_part(second))]
    changes = _diff_arguments(first, second, _SETTINGS[type(first)], second.path)
    if not isinstance(first, Parallel):  # the parts of parallel branches are named beside it
        first_path, second_path = first.path, second.path
    for row, other in zip(first.rows, second.rows, strict=True):
        changes += _diff_rows(first_path, row, second_path, other)
    return changes


_SETTINGS: dict[type[Part], tuple[str, ...]] = {
    Chain: (),
    Residual: ("combine", "reads"),
    Parallel: ("split", "cascade", "combine", "collect", "resize"),
}
"""What a part that holds others says beside them."""


def _diff_leaves(first: Leaf, second: Leaf) -> list[Change]:
    if first.op == second.op:
        return []
    if type(first.op) is not type(second.op):
        return [Change("changed", second.path, describe_part(first), describe_part(second))]
    names = [field.name for field in fields(first.op)]
    return _diff_arguments(first.op, second.op, names, second.path)


def _diff_arguments(first: object, second: object, names: Sequence[str], path: str) -> list[Change]:
    """Return one change that lists all the attributes that differ, or none."""
    differing = [name for name in names if getattr(first, name) != getattr(second, name)]
    before, after = (", ".join(f"{name}: {getattr(of, name)}" for name in differing).lower() for of in (first, second))
    return [Change("changed", path, before, after)] if differing else []


def _label(parent: str, part: Part) -> str:
    """Return the name that a part is matched by: its kind if its own name is only a number."""
    name = relative_path(parent, part.path)
    return _kind(part) if name.isdigit() else name


def _kind(part: Part) -> str:
    return op_name(part.op) if isinstance(part, Leaf) else type(part).__name__


def describe_part(part: Part) -> str:
    """Return a part as one line: an operation with its arguments, or the names of the operations inside."""
    if not isinstance(part, Leaf):
        return ", ".join(_operations(part))
    arguments = ", ".join(f"{name}: {value}" for name, value in non_default_arguments(part.op).items()).lower()
    return f"{op_name(part.op)} {{{arguments}}}" if arguments else op_name(part.op)


def _operations(part: Part) -> Iterator[str]:
    if isinstance(part, Leaf):
        yield op_name(part.op)
    for inner in children(part):
        yield from _operations(inner)


# -- blocks that change in the same way --------------------------------------------------------------------------------


def merge_repeats(changes: list[list[Change]]) -> list[Change]:
    """Return the changes of successive parts with equal ones merged: paths become a range, counts add up."""
    result: list[Change] = []
    for _, equal in groupby(changes, lambda of_part: [_without_numbers(change) for change in of_part]):
        repeats = list(equal)
        for first, last in zip(repeats[0], repeats[-1], strict=True):
            path = path_range(first.path, last.path)
            before, after = first.before, first.after
            if first.kind == "renamed":
                before, after = path_range(first.before, last.before), path_range(first.after, last.after)
            result.append(Change(first.kind, path, before, after, first.times * len(repeats)))
    return result


def _without_numbers(change: Change) -> Hashable:
    """Return what a change has in common with those of other blocks: all but the numbers in its paths."""
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


def _stage_costs(network: Network) -> list[_StageCost]:
    costs = compute_costs(network)
    return [
        _StageCost(
            group.name,
            sum(costs[part.path].parameters for part in group.parts),
            sum(costs[part.path].macs for part in group.parts),
            group.output_shape,
        )
        for group in group_stages(network)
    ]


def _stage_diff(first: _StageCost | None, second: _StageCost | None) -> StageDiff:
    stage = first or second
    assert stage is not None
    return StageDiff(
        stage.name,
        (first.parameters if first else None, second.parameters if second else None),
        (first.macs if first else None, second.macs if second else None),
        (first.output_shape if first else None, second.output_shape if second else None),
    )
