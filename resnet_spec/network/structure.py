"""What a person sees in a network's tree: its stem, stages and head, and the blocks that repeat."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import MISSING, dataclass, fields
from itertools import groupby
from typing import TypeAlias, assert_never

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.ops import Op, Shape

Repeats: TypeAlias = tuple[Part, ...]
"""Parts in a row that are alike but for their path."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parts of a network that people name together. One with a ``path`` is a stage, whose parts are blocks."""

    name: str
    path: str
    parts: tuple[Part, ...]
    input_shape: Shape
    output_shape: Shape


def group_stages(network: Network) -> tuple[Group, ...]:
    """A network's stem, stages and head, in the order they are run.

    >>> from resnet_spec import load
    >>> [(group.name, len(group.parts)) for group in group_stages(load("resnet18"))]
    [('stem', 4), ('layer1', 2), ('layer2', 2), ('layer3', 2), ('layer4', 2), ('head', 2)]
    """
    found: list[Group] = []
    stages = set(network.stages) or {part.path for part in network.parts if _like_a_stage(part)}
    for stage, members in groupby(network.parts, lambda part: part.path in stages):
        parts = tuple(members)
        if stage:
            found += [
                Group(part.path, part.path, part.parts, part.input_shape, part.output_shape)
                for part in _sequences(parts)
            ]
        else:
            name = "layers" if not stages else "head" if parts[-1] is network.parts[-1] else "stem"
            found.append(Group(name, "", parts, parts[0].input_shape, parts[-1].output_shape))
    return tuple(found)


def _like_a_stage(part: Part) -> bool:
    """Whether a part at the top is a row of blocks, none of them a single operation."""
    return isinstance(part, Chain) and not any(isinstance(inner, Leaf) for inner in part.parts)


def group_repeats(parts: Iterable[Part]) -> list[Repeats]:
    """Parts with those that repeat side by side put together.

    >>> from resnet_spec import load
    >>> [len(run) for run in group_repeats(group_stages(load("resnet152"))[3].parts)]
    [1, 35]
    """
    return [tuple(run) for _, run in groupby(parts, structural_key)]


def structural_key(part: Part) -> Hashable:
    """What a part is, whatever its path: two parts of a kind compute alike, with weights of their own."""
    match part:
        case Leaf():
            return part.op, part.input_shape
        case Chain():
            return _named(part.path, part.parts)
        case Residual():
            sections = (part.before, part.branch, part.shortcut, part.after)
            return part.combine, part.reads, *(_named(part.path, section) for section in sections)
        case Parallel():
            branches = (_named(part.path.rpartition(".")[0], branch) for branch in part.branches)
            return part.combine, part.split, part.cascade, *branches
        case _:
            assert_never(part)


def relative_path(parent: str, path: str) -> str:
    """A path as seen from one of those above it.

    >>> relative_path("layer1.0", "layer1.0.downsample.1")
    'downsample.1'
    """
    return path.removeprefix(f"{parent}.") if parent else path


def non_default_arguments(op: Op) -> dict[str, object]:
    """The arguments of an operation that are not what they would be anyway.

    >>> from resnet_spec.ops import BatchNorm, Conv
    >>> non_default_arguments(Conv(64, 3, padding=1)), non_default_arguments(BatchNorm())
    ({'out': 64, 'kernel': 3, 'padding': 1}, {})
    """
    required = {field.name: getattr(op, field.name) for field in fields(op) if field.default is MISSING}
    usual = type(op)(**required)
    input_shape = {field.name: getattr(op, field.name) for field in fields(op)}
    return {name: value for name, value in input_shape.items() if name in required or value != getattr(usual, name)}


def path_range(first: str, last: str) -> str:
    """A name for all from one path to another.

    >>> path_range("layer3.1", "layer3.35"), path_range("layer3.1.se", "layer3.35.se"), path_range("fc", "fc")
    ('layer3.1-35', 'layer3.1-35.se', 'fc')
    """
    pairs = zip(first.split("."), last.split("."), strict=True)
    return ".".join(one if one == other else f"{one}-{_number(other)}" for one, other in pairs)


def _named(above: str, parts: tuple[Part, ...]) -> tuple[tuple[str, Hashable], ...]:
    return tuple((relative_path(above, part.path), structural_key(part)) for part in parts)


def _number(word: str) -> str:
    """What a name ends in: its number, or else the whole."""
    return word[len(word.rstrip("0123456789")) :] or word


def _sequences(parts: tuple[Part, ...]) -> Iterable[Chain]:
    return (part for part in parts if isinstance(part, Chain))
