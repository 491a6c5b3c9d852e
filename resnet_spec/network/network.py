"""A network, fully expanded: a tree of named operations, each knowing the shape it is given and the shape it gives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from importlib import import_module
from typing import Any

from resnet_spec.language.spec import Preprocess
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import Rules, propagate, rows_as_written, walk
from resnet_spec.ops import Op, Shape, Weight
from resnet_spec.ops import op_name as op_name


@dataclass(frozen=True, slots=True)
class Feature:
    """A map on an image's way: the path of the part that gives it, its channels, and how many pixels one of its own spans."""

    path: str
    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Network:
    """A tree of operations with every shape known. Shapes are shown for one image of shape ``input``.

    >>> from resnet_spec import load
    >>> network = load("resnet18", classes=10)
    >>> network.parameters, network.statistics, network.macs, network.output_shape
    (11181642, 9600, 1813566464, (10,))
    """

    name: str
    input: tuple[int, int, int]
    parts: tuple[Part, ...]
    source: str = field(default="", compare=False)
    preprocess: Preprocess | None = None
    stages: tuple[str, ...] = field(default=(), compare=False)
    outputs: tuple[str, ...] = ()
    takes: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    """The whole numbers that a caller may set, by name, as they were set."""

    def __hash__(self) -> int:
        """Cheap, and enough: frameworks hash what a model carries at every call."""
        return hash((self.name, self.input, len(self.parts)))

    def leaves(self) -> Iterator[Leaf]:
        """Every operation, in the order it is run."""
        return (part for part in walk(self.parts) if isinstance(part, Leaf))

    def nodes(self) -> Iterator[Part]:
        """Every named part, in the order that they finish: a block comes after all that is in it."""
        return walk(self.parts)

    def part(self, path: str) -> Part:
        """The part at a path. Raises KeyError."""
        for part in self.nodes():
            if part.path == path:
                return part
        raise KeyError(path)

    def owners(self) -> list[tuple[str, Weight]]:
        """Every weight under its full name, in the order of PyTorch's ``state_dict``."""
        named = {
            f"{leaf.path}.{weight.name}": weight
            for leaf in _leaves_as_written(self.parts)
            for weight in leaf.op.weights(leaf.input_shape)
        }
        return [(name, named[name]) for name in _by_prefix(named)]

    def weights(self) -> dict[str, Shape]:
        """Every weight and running statistic: its name and shape, as in PyTorch's ``state_dict``."""
        return {name: weight.shape for name, weight in self.owners()}

    def features(self) -> tuple[Feature, ...]:
        """The maps that ``build(..., outputs=[...])`` can give: stages, their blocks, and layers outside of blocks.

        >>> from resnet_spec import load
        >>> [feature for feature in load("resnet18").features() if feature.path in ("maxpool", "layer4")]
        [Feature(path='maxpool', channels=64, stride=4), Feature(path='layer4', channels=512, stride=32)]
        """
        return tuple(_features(self.parts, 1))

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(math.prod(weight.shape) for _, weight in self.owners() if not weight.statistic)

    @property
    def statistics(self) -> int:
        """How many numbers are kept as running statistics."""
        return sum(math.prod(weight.shape) for _, weight in self.owners() if weight.statistic)

    @property
    def macs(self) -> int:
        """Multiplications with addition, in convolutions and matrix products, for one image; FLOPs are twice as many."""
        return sum(leaf.op.macs(leaf.input_shape) for leaf in self.leaves())

    @property
    def fingerprint(self) -> str:
        """A hash of what the network computes, and of its names: the same in every process, for every image size, under any name.

        Arguments at their defaults do not count, so an operation that learns to take another keeps the fingerprints of old.
        """
        from hashlib import sha256  # a tenth of the time that `import resnet_spec` would take

        tree = [self.input[0], [_plain(part) for part in self.parts]]
        return sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()[:32]

    @property
    def output_shape(self) -> Shape:
        """What one image gives, without the batch axis."""
        return self.parts[-1].output_shape

    # Notebooks ask an object itself how it looks. What draws it stands on floors above this one, so it is named, not imported.
    def _repr_html_(self) -> str:
        """Drawing and table, as notebooks show them."""
        return str(import_module("resnet_spec.views.notebook").render_html(self))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The same in every form that a notebook may choose from."""
        found: dict[str, str] = import_module("resnet_spec.views.notebook").render_mime_bundle(self)
        return found


def _features(row: Row, stride: int) -> Iterator[Feature]:
    """Yield the maps that a row gives, outside of blocks: after each part, and inside chains."""
    for part in row:
        if isinstance(part, Chain):
            yield from _features(part.parts, stride)
        _, stride = propagate((part,), stride, _STRIDE)
        if len(part.output_shape) == 3:
            yield Feature(part.path, part.output_shape[0], stride)


_STRIDE: Rules[int] = Rules(
    leaf=lambda leaf, stride: (leaf, stride * int(getattr(leaf.op, "stride", 1))),
    combine=lambda part, branch, shortcut: shortcut if part.combine == "multiply" else branch,
    join=lambda part, stride, outputs: max(outputs),
)
"""How many pixels of the image one step of a map spans, after each part."""


def _plain(part: Part) -> list[Any]:
    """A part as JSON can say it."""
    match part:
        case Leaf():
            said = {item.name: getattr(part.op, item.name) for item in fields(part.op) if not _default(part.op, item)}
            return [part.path, op_name(part.op), said]
        case Chain():
            return [part.path, [_plain(inner) for inner in part.parts]]
        case Residual():
            sections = (part.before, part.branch, part.shortcut, part.after)
            read = [] if part.reads == "input" else [part.reads]
            return [part.path, part.combine, *([_plain(inner) for inner in section] for section in sections), *read]
        case Parallel():
            branches = [[_plain(inner) for inner in branch] for branch in part.branches]
            return [part.path, part.combine, part.split, part.cascade, branches]


def _default(op: Op, item: Field[Any]) -> bool:
    """Whether an argument has its default, rounded as the operation rounds it."""
    input_shape, default = getattr(op, item.name), item.default
    return input_shape == default or (
        isinstance(input_shape, float) and default is not MISSING and replace(op, **{item.name: default}) == op
    )


def _leaves_as_written(row: Row) -> Iterator[Leaf]:
    """Yield the operations in the order in which the spec writes them."""
    for part in row:
        if isinstance(part, Leaf):
            yield part
        for inner in rows_as_written(part):
            yield from _leaves_as_written(inner)


def _by_prefix(names: dict[str, Weight]) -> Iterator[str]:
    """Names with those of one prefix together, where the first of them stands: as nested modules list them."""
    tree: dict[str, Any] = {}
    for name in names:
        *path, last = name.split(".")
        inner = tree
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = name
    return _flat(tree)


def _flat(tree: dict[str, Any]) -> Iterator[str]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield value
