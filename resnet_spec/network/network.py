"""The expanded network: a tree of named operations with all input and output shapes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from importlib import import_module
from typing import Any

from resnet_spec.language.spec import Preprocess
from resnet_spec.network.features import Feature, find_features
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import walk
from resnet_spec.ops import Op, Shape, Weight
from resnet_spec.ops import op_name as op_name


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks that a spec writes as one repeated block.

    Attributes:
        path: The path of the chain that holds them and nothing else, or "".
        blocks: The paths of the blocks.
    """

    path: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A tree of operations with all shapes, for one image of shape ``input`` (channels, height, width).

    Two networks are equal if they have the same parts, image and name; ``source``, ``stages``, ``takes``, ``settings``
    and ``full`` are not compared.

    >>> from resnet_spec import load
    >>> network = load("resnet18", classes=10)
    >>> network
    <Network resnet18: 3x224x224 -> 10, 11,181,642 parameters, 1,813,566,464 MACs>
    >>> network.parameters, network.statistics, network.macs, network.output_shape
    (11181642, 9600, 1813566464, (10,))
    """

    name: str
    input: tuple[int, int, int]
    parts: tuple[Part, ...]
    source: str = field(default="", compare=False)
    preprocess: Preprocess | None = None
    stages: tuple[Stage, ...] = field(default=(), compare=False)
    outputs: tuple[str, ...] = ()
    takes: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    """The integer arguments that callers can set, with their values."""
    settings: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """The settings with which the network was loaded, as they are written after ``--set``."""
    full: Network | None = field(default=None, compare=False, repr=False)
    """The network before ``outputs`` cut off what follows the last of them; None if it has no ``outputs``."""

    def __hash__(self) -> int:
        # A cheap hash of few fields, because frameworks hash the attributes of a model at every call.
        return hash((self.name, self.input, len(self.parts)))

    def __repr__(self) -> str:
        """Return a summary in one line; its parts are what ``resnet-spec show`` prints."""
        sizes = " -> ".join("x".join(map(str, shape)) for shape in (self.input, self.output_shape))
        return f"<Network {self.name}: {sizes}, {self.parameters:,} parameters, {self.macs:,} MACs>"

    def leaves(self) -> Iterator[Leaf]:
        """Yield every operation, in the order in which they run."""
        return (part for part in walk(self.parts) if isinstance(part, Leaf))

    def nodes(self) -> Iterator[Part]:
        """Yield every part, in the order in which they finish: a block comes after the parts inside it."""
        return walk(self.parts)

    def part(self, path: str) -> Part:
        """Return the part at a path. Raises KeyError if there is none."""
        for part in self.nodes():
            if part.path == path:
                return part
        raise KeyError(path)

    def owners(self) -> list[tuple[str, Weight]]:
        """Return every weight with its full name, in the order of PyTorch's ``state_dict``."""
        named = {
            leaf.weight_path(weight.name): weight
            for leaf in _leaves_as_written(self.parts)
            for weight in leaf.op.weights(leaf.input_shape)
        }
        return [(name, named[name]) for name in _by_prefix(named)]

    def weights(self) -> dict[str, Shape]:
        """Return the shape of every weight and running statistic by name, as in PyTorch's ``state_dict``."""
        return {name: weight.shape for name, weight in self.owners()}

    def features(self) -> tuple[Feature, ...]:
        """Return the feature maps that ``build(..., outputs=[...])`` can return.

        They are the outputs of stages, of the blocks in them, and of layers outside of blocks.

        >>> from resnet_spec import load
        >>> [feature for feature in load("resnet18").features() if feature.path in ("maxpool", "layer4")]
        [Feature(path='maxpool', channels=64, stride=4), Feature(path='layer4', channels=512, stride=32)]
        """
        return find_features(self.parts, self.input)

    @property
    def parameters(self) -> int:
        """The number of learnable values."""
        return sum(math.prod(weight.shape) for _, weight in self.owners() if not weight.statistic)

    @property
    def statistics(self) -> int:
        """The number of values kept as running statistics."""
        return sum(math.prod(weight.shape) for _, weight in self.owners() if weight.statistic)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of convolutions and matrix products, for one image; FLOPs are twice that."""
        return sum(leaf.op.macs(leaf.input_shape) for leaf in self.leaves())

    @property
    def fingerprint(self) -> str:
        """A hash of the function that the network computes and of its parts' names.

        It is the same in every process, and does not depend on the size of the image or the name of the network.
        Arguments with default values are left out, so that a new argument does not change existing fingerprints.
        """
        from hashlib import sha256  # importing it takes a tenth of the time of `import resnet_spec`

        tree = [self.input[0], [_as_json(part) for part in self.parts]]
        return sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()[:32]

    @property
    def output_shape(self) -> Shape:
        """The shape of the output for one image, without the batch axis."""
        return self.parts[-1].output_shape

    # Notebooks call these methods. The views package imports this one, so it is imported only when a method is called.
    def _repr_html_(self) -> str:
        """Return a drawing and a table as HTML for notebooks."""
        return str(import_module("resnet_spec.views.notebook").render_html(self))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the representations from which a notebook chooses, by MIME type."""
        bundle: dict[str, str] = import_module("resnet_spec.views.notebook").render_mime_bundle(self)
        return bundle


def _as_json(part: Part) -> list[Any]:
    """Return a part as JSON values. Fingerprints depend on their form, which must not change."""
    match part:
        case Leaf():
            arguments = {
                item.name: getattr(part.op, item.name) for item in fields(part.op) if not _is_default(part.op, item)
            }
            return [part.path, op_name(part.op), arguments]
        case Chain():
            return [part.path, [_as_json(inner) for inner in part.parts]]
        case Residual():
            sections = [[_as_json(inner) for inner in row] for row in part.rows]
            reads = [] if part.reads == "input" else [part.reads]
            return [part.path, part.combine, *sections, *reads]
        case Parallel():
            branches = [[_as_json(inner) for inner in branch] for branch in part.branches]
            settings = [name for name in ("collect", "resize") if getattr(part, name)]
            return [part.path, part.combine, part.split, part.cascade, branches, *settings]


def _is_default(op: Op, item: Field[Any]) -> bool:
    """Return whether an argument has its default value, rounded as the operation rounds it."""
    value, default = getattr(op, item.name), item.default
    if value == default:
        return True
    return isinstance(value, float) and default is not MISSING and replace(op, **{item.name: default}) == op


def _leaves_as_written(row: Row) -> Iterator[Leaf]:
    """Yield the operations in the order in which the spec writes them."""
    for part in row:
        if isinstance(part, Leaf):
            yield part
        for inner in part.written_rows:
            yield from _leaves_as_written(inner)


def _by_prefix(names: dict[str, Weight]) -> Iterator[str]:
    """Yield names grouped by prefix, in the order of each prefix's first name, which is the order of nested modules."""
    tree: dict[str, Any] = {}
    for name in names:
        *path, last = name.split(".")
        inner = tree
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = name
    return _flatten(tree)


def _flatten(tree: dict[str, Any]) -> Iterator[str]:
    """Yield the names of a module's own weights, then those of the modules in it."""
    yield from (value for value in tree.values() if not isinstance(value, dict))
    for value in tree.values():
        if isinstance(value, dict):
            yield from _flatten(value)
