"""A network, fully expanded: a tree of named operations, each knowing the shape it is given and the shape it gives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from importlib import import_module
from typing import Any, Literal, TypeAlias, assert_never

from resnet_spec.diagnostics.problems import Span
from resnet_spec.language.spec import Join, Preprocess, Role
from resnet_spec.ops import Op, Shape, ShapeError, Weight
from resnet_spec.ops import op_name as op_name


@dataclass(frozen=True, slots=True)
class Leaf:
    """One operation. ``path`` is its dotted name from the root, as in ``layer1.0.conv1``."""

    path: str
    op: Op
    input_shape: Shape
    output_shape: Shape
    at: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """Parts run one after another."""

    path: str
    parts: tuple[Part, ...]
    input_shape: Shape
    output_shape: Shape
    at: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Residual:
    """``after(combine(branch(y), shortcut(z)))``, where y is ``before(x)``; z is y too, or x, as ``reads`` says.

    An empty ``shortcut`` is z itself. ``order`` is that in which the sections were written, and so that of their weights.
    """

    path: str
    before: tuple[Part, ...]
    branch: tuple[Part, ...]
    shortcut: tuple[Part, ...]
    combine: Literal["add", "multiply"]
    after: tuple[Part, ...]
    order: tuple[Role, ...]
    input_shape: Shape
    output_shape: Shape
    reads: Literal["input", "before"] = "input"
    at: Span | None = field(default=None, compare=False, repr=False)

    def section(self, role: Role) -> tuple[Part, ...]:
        match role:
            case "before":
                return self.before
            case "branch":
                return self.branch
            case "shortcut":
                return self.shortcut
            case "after":
                return self.after
            case _:
                assert_never(role)


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches side by side, put together again: each reads the input or, of a ``split`` one, its own piece of the channels.

    In a ``cascade`` each branch also adds what the one before it gave to what it reads. An empty branch hands its piece on as
    it is. The parts are named beside this one and not beneath it, since Res2Net's are (``convs.0``, ``bns.0``).
    """

    path: str
    branches: tuple[tuple[Part, ...], ...]
    split: bool
    cascade: bool
    combine: Join
    input_shape: Shape
    output_shape: Shape
    at: Span | None = field(default=None, compare=False, repr=False)


Part: TypeAlias = Leaf | Chain | Residual | Parallel


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
            for leaf in _as_written(self.parts)
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
        return str(import_module("resnet_spec.views.notebook").html(self))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The same in every form that a notebook may choose from."""
        found: dict[str, str] = import_module("resnet_spec.views.notebook").bundle(self)
        return found


def combined_shape(branch: Shape, other: Shape, combine: str) -> Shape:
    """The shape of a branch and a shortcut put together. Raises Misfit."""
    if branch == other or (combine == "multiply" and branch in (other[:1], (other[0], 1, 1))):
        return other
    raise ShapeError(f"the branch gives {branch}, but the shortcut {other}", output_shape=branch)


def walk(parts: tuple[Part, ...]) -> Iterator[Part]:
    """Parts and all that they hold, in the order that they finish."""
    for part in parts:
        match part:
            case Chain():
                yield from walk(part.parts)
            case Residual():
                for section in (part.before, part.branch, part.shortcut, part.after):
                    yield from walk(section)
            case Parallel():
                for branch in part.branches:
                    yield from walk(branch)
        yield part


def _features(parts: tuple[Part, ...], stride: int) -> Iterator[Feature]:
    for part in parts:
        if isinstance(part, Chain):
            yield from _features(part.parts, stride)
        stride *= _stride(part)
        if len(part.output_shape) == 3:
            yield Feature(part.path, part.output_shape[0], stride)


def _stride(part: Part) -> int:
    match part:
        case Leaf():
            return int(getattr(part.op, "stride", 1))
        case Chain():
            return math.prod(map(_stride, part.parts))
        case Residual(combine="multiply"):
            return math.prod(map(_stride, (*part.before, *part.shortcut, *part.after)))
        case Residual():
            return math.prod(map(_stride, (*part.before, *part.branch, *part.after)))
        case Parallel():
            return max(math.prod(map(_stride, branch)) for branch in part.branches)


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


def _as_written(parts: tuple[Part, ...]) -> Iterator[Leaf]:
    for part in parts:
        match part:
            case Leaf():
                yield part
            case Chain():
                yield from _as_written(part.parts)
            case Residual():
                for role in part.order:
                    yield from _as_written(part.section(role))
            case Parallel():
                for branch in part.branches:
                    yield from _as_written(branch)


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
