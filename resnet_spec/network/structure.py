"""Group the parts of a network as people describe it: stem, stages, head, and repeated blocks."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import groupby
from typing import TypeAlias

from resnet_spec.network.network import Network, Stage
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import walk
from resnet_spec.ops import DropPath, Op, Shape

Repeats: TypeAlias = tuple[Part, ...]
"""Consecutive parts that differ only in their paths, and in the rate of stochastic depth."""


@dataclass(frozen=True, slots=True)
class Group:
    """The stem, the head, a stage, or the layers between two stages of a network.

    Only a stage has a ``path``, and its parts are blocks: it is that of their chain, or else of the first block.
    """

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
    stages = {path: stage for stage in _stages(network) for path in stage.blocks}
    flat = list(_open_chains(network.parts, stages))
    groups: list[Group] = []
    for stage, members in groupby(flat, lambda part: stages.get(part.path)):
        parts = tuple(members)
        shapes = parts[0].input_shape, parts[-1].output_shape
        if stage is None:
            is_last, is_first = parts[-1] is flat[-1], parts[0] is flat[0]
            name = "layers" if not stages else "head" if is_last else "stem" if is_first else "between"
            groups.append(Group(name, "", parts, *shapes))
        else:
            name = stage.path or path_range(parts[0].path, parts[-1].path)
            groups.append(Group(name, stage.path or parts[0].path, parts, *shapes))
    return tuple(groups)


def _stages(network: Network) -> tuple[Stage, ...]:
    """Return the stages of a network; if none are recorded, the chains of blocks that look like stages."""
    chains = (part for part in network.parts if isinstance(part, Chain) and _looks_like_stage(part))
    return network.stages or tuple(Stage(part.path, tuple(block.path for block in part.parts)) for part in chains)


def _open_chains(row: Row, blocks: Container[str]) -> Iterator[Part]:
    """Yield the parts of a row, and in place of each chain that holds blocks the parts inside it."""
    for part in row:
        is_open = isinstance(part, Chain) and part.path not in blocks
        if is_open and any(inner.path in blocks for inner in walk(part.rows[0])):
            yield from _open_chains(part.rows[0], blocks)
        else:
            yield part


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


def structural_key(part: Part, any_width: bool = False) -> Hashable:
    """Return a key that is equal for two parts that differ only in their paths and the values of their weights.

    They may differ in the rate of ``drop_path`` too, which grows from block to block where all else is equal, and
    blocks that concatenate in the number of channels that arrive, which grows as well. ``any_width`` ignores that
    number.
    """
    if isinstance(part, Leaf):
        shape = part.input_shape[1:] if any_width else part.input_shape
        return DropPath if isinstance(part.op, DropPath) else part.op, shape
    # the parts of parallel branches are named beside them
    holder = part.path.rpartition(".")[0] if isinstance(part, Parallel) else part.path
    settings = (getattr(part, name, None) for name in ("combine", "reads", "split", "cascade", "collect", "resize"))
    any_width = any_width or (isinstance(part, Residual) and part.combine == "concat")
    return type(part), *settings, *(_row_key(holder, row, any_width) for row in part.rows)


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


def _row_key(parent: str, row: Row, any_width: bool) -> tuple[tuple[str, Hashable], ...]:
    return tuple((relative_path(parent, part.path), structural_key(part, any_width)) for part in row)


def _trailing_number(name: str) -> str:
    """Return the number at the end of a name, or the whole name if there is none."""
    return name[len(name.rstrip("0123456789")) :] or name
