"""What is adapted when trained weights meet other classes or other images: the classifier and the first layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from resnet_spec.language.values import join_alternatives
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import Conv, Linear, SpaceToDepth, StandardizedConv

Head: TypeAlias = Literal["new", "none"]
Stem: TypeAlias = Literal["sum", "repeat", "mean"]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What ``build`` may change in the weights that it reads, as its arguments ``head`` and ``stem`` say."""

    head: Head | None = None
    stem: Stem | None = None

    def __post_init__(self) -> None:
        for name, choices in (("head", get_args(Head)), ("stem", get_args(Stem))):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ValueError(f"{name} is {value!r}; it can be {join_alternatives(choices)}")

    def needs_weights(self) -> str:
        """Return the argument that has no effect without weights, or ""."""
        return "head='new'" if self.head == "new" else f"stem={self.stem!r}" if self.stem else ""


NOT_ADAPTED = Adaptation()
"""All weights must fit."""


@dataclass(frozen=True, slots=True)
class FirstLayer:
    """A layer with weights that reads the image.

    Attributes:
        tiles: The number of pixels whose channels it reads as channels of one, behind ``space_to_depth``; 1 elsewhere.
        channel_first: Whether these channels are ordered by the image's channel first, and by the pixel thereafter.
    """

    leaf: Leaf
    tiles: int = 1
    channel_first: bool = False


def find_classifiers(network: Network) -> tuple[Leaf, ...]:
    """Return the last layers with weights: a linear layer or a convolution, or one in each of parallel branches.

    Returns () if the network ends in another layer with weights, as one without a head does.

    >>> from resnet_spec import load
    >>> [leaf.path for leaf in find_classifiers(load("resnet18"))]
    ['fc']
    >>> [leaf.path for leaf in find_classifiers(load("timm/repvit_m0_9"))]
    ['head.head.l', 'head.head_dist.l']
    """
    return tuple(_last_layers(network.parts) or ())


def _last_layers(row: Row) -> list[Leaf] | None:
    """Return the last layers with weights of a row; None if one of them is no classifier, [] if it has no weights."""
    for part in reversed(row):
        found = _last_layers_in(part)
        if found is None or found:
            return found
    return []


def _last_layers_in(part: Part) -> list[Leaf] | None:
    match part:
        case Leaf(op=Linear() | Conv() | StandardizedConv()):
            return [part]
        case Leaf():
            return None if part.op.weights(part.input_shape) else []
        case Chain():
            return _last_layers(part.parts)
        case Parallel():
            branches = [_last_layers(branch) for branch in part.branches]
            found = [leaf for branch in branches for leaf in branch or ()]
            return found if all(branches) or not found else None
        case _:
            return None


def without_classifier(network: Network) -> Network:
    """Return the network without its classifier, which ``full`` keeps; pools and what else has no weights stay.

    Raises ValueError if it has none.

    >>> from resnet_spec import load
    >>> without_classifier(load("resnet18")).output_shape
    (512,)
    """
    classifiers = {leaf.path for leaf in find_classifiers(network)}
    if not classifiers:
        raise ValueError(f"{network.name} does not end in a classifier: its last layer with weights is another one")
    parts = tuple(_without(network.parts, classifiers))
    return infer_shapes(replace(network, parts=parts, full=network.full or network))


def _without(row: Row, paths: set[str]) -> Iterator[Part]:
    """Yield the parts of a row without the operations at some paths, and without chains that held nothing else."""
    for part in row:
        if part.path in paths and isinstance(part, Leaf):
            continue
        if not part.rows:
            yield part
            continue
        rows = [tuple(_without(inner, paths)) for inner in part.rows]
        if any(rows) or not isinstance(part, Chain):
            yield part.with_rows(rows)


def find_first_layers(network: Network) -> tuple[FirstLayer, ...]:
    """Return the layers with weights that read the image.

    >>> from resnet_spec import load
    >>> [first.leaf.path for first in find_first_layers(load("paddleclas/RepVGG_A0"))]
    ['stage0.rbr_dense.conv', 'stage0.rbr_1x1.conv']
    """
    found: list[FirstLayer] = []

    def read(leaf: Leaf, image: FirstLayer | None) -> tuple[Part, FirstLayer | None]:
        if image is None:
            return leaf, None
        if isinstance(leaf.op, SpaceToDepth):
            return leaf, FirstLayer(leaf, image.tiles * leaf.op.size**2, leaf.op.order == "channel_row_column")
        if leaf.op.weights(leaf.input_shape):
            found.append(replace(image, leaf=leaf))
            return leaf, None
        return leaf, image

    rules: Rules[FirstLayer | None] = Rules(
        leaf=read,
        combine=lambda part, branch, shortcut: branch and shortcut,
        join=lambda part, image, outputs: image if all(outputs) else None,
    )
    start = next(iter(network.leaves()))
    propagate(network.parts, FirstLayer(start), rules)
    return tuple(found)
