"""Group the parts of a network as people describe it: stem, stages, head, and repeated blocks."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import MISSING, dataclass, fields
from itertools import groupby
from typing import TypeAlias

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Row
from resnet_spec.ops import DropPath, Op, Shape

Repeats: TypeAlias = tuple[Part, ...]
"""Consecutive parts that differ only in their paths, and in the rate of stochastic depth."""


@dataclass(frozen=True, slots=True)
class Group:
    """The stem, the head or a stage of a network. Only a stage has a ``path``, and its parts are blocks."""

    name: str
    path: str
    parts: Row
    input_shape: Shape
    output_shape: Shape


def group_stages(network: Network) -> tuple[Group, ...]:
    """Return a network's stem, stages and head, in the order in which they run.

    >>> from resnet_spec import load
    >>> [(group.name, len(group.parts)) for group in group_stages(load("resnet18"))]
    [('stem', 4), ('layer1', 2), ('layer2', 2), ('layer3', 2), ('layer4', 2), ('head', 2)]
    """
    stages = set(network.stages) or {part.path for part in network.parts if _looks_like_stage(part)}
    groups: list[Group] = []
    for is_stage, members in groupby(network.parts, lambda part: part.path in stages):
        parts = tuple(members)
        if is_stage:
            groups += [
                Group(part.path, part.path, part.parts, part.input_shape, part.output_shape)
                for part in parts
                if isinstance(part, Chain)
            ]
        else:
            name = "layers" if not stages else "head" if parts[-1] is network.parts[-1] else "stem"
            groups.append(Group(name, "", parts, parts[0].input_shape, parts[-1].output_shape))
    return tuple(groups)


def _looks_like_stage(part: Part) -> bool:
    """Return whether a part is a chain of blocks, none of them a single operation."""
    return isinstance(part, Chain) and not any(isinstance(inner, Leaf) for inner in part.parts)


def group_repeats(parts: Iterable[Part]) -> list[Repeats]:
    """Return parts with consecutive equal ones grouped; parts are equal if they have the same ``structural_key``.

    >>> from resnet_spec import load
    >>> [len(run) for run in group_repeats(group_stages(load("resnet152"))[3].parts)]
    [1, 35]
    """
    return [tuple(run) for _, run in groupby(parts, structural_key)]


def structural_key(part: Part) -> Hashable:
    """Return a key that is equal for two parts that differ only in their paths and the values of their weights.

    They may differ in the rate of ``drop_path`` too, which grows from block to block where all else is equal.
    """
    if isinstance(part, Leaf):
        return DropPath if isinstance(part.op, DropPath) else part.op, part.input_shape
    # the parts of parallel branches are named beside them
    holder = part.path.rpartition(".")[0] if isinstance(part, Parallel) else part.path
    settings = (getattr(part, name, None) for name in ("combine", "reads", "split", "cascade"))
    return type(part), *settings, *(_row_key(holder, row) for row in part.rows)


def relative_path(parent: str, path: str) -> str:
    """Return a path relative to a parent's path.

    >>> relative_path("layer1.0", "layer1.0.downsample.1")
    'downsample.1'
    """
    return path.removeprefix(f"{parent}.") if parent else path


def non_default_arguments(op: Op) -> dict[str, object]:
    """Return the arguments of an operation that are required or differ from their defaults.

    >>> from resnet_spec.ops import BatchNorm, Conv
    >>> non_default_arguments(Conv(64, 3, padding=1)), non_default_arguments(BatchNorm())
    ({'out': 64, 'kernel': 3, 'padding': 1}, {})
    """
    arguments = {field.name: getattr(op, field.name) for field in fields(op)}
    required = {field.name: arguments[field.name] for field in fields(op) if field.default is MISSING}
    default = type(op)(**required)
    return {name: value for name, value in arguments.items() if name in required or value != getattr(default, name)}


def path_range(first: str, last: str) -> str:
    """Return a name for the range from one path to another.

    >>> path_range("layer3.1", "layer3.35"), path_range("layer3.1.se", "layer3.35.se"), path_range("fc", "fc")
    ('layer3.1-35', 'layer3.1-35.se', 'fc')
    """
    pairs = zip(first.split("."), last.split("."), strict=True)
    return ".".join(start if start == end else f"{start}-{_trailing_number(end)}" for start, end in pairs)


def _row_key(parent: str, row: Row) -> tuple[tuple[str, Hashable], ...]:
    return tuple((relative_path(parent, part.path), structural_key(part)) for part in row)


def _trailing_number(name: str) -> str:
    """Return the number at the end of a name, or the whole name if there is none."""
    return name[len(name.rstrip("0123456789")) :] or name
