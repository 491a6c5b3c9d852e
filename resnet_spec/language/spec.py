"""A spec as written: the records that the reader returns. Their form is checked; their names are not looked up yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from resnet_spec.diagnostics.problems import Span
from resnet_spec.syntax.nodes import Scalar

Role: TypeAlias = Literal["before", "branch", "shortcut", "after"]
Combine: TypeAlias = Literal["add", "multiply", "concat", "none"]
Join: TypeAlias = Literal["concat", "add", "mean", "multiply", "subtract"]
Resize: TypeAlias = Literal["nearest"]
Project: TypeAlias = Literal["changed", "first", "always", "never", "drop"]


@dataclass(frozen=True, slots=True)
class Invalid:
    """A placeholder for a value whose problem is reported. What depends on it causes no further problems."""

    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """An operation or a block by name, with arguments: ``{op: conv, out: 64, kernel: 3}``.

    ``keys`` are the keys as written, by their meaning: a misspelt key stands under the name that was meant.
    """

    what: Literal["op", "block"]
    target: Scalar
    arguments: Mapping[str, Argument]
    keys: Mapping[str, Scalar]
    span: Span


@dataclass(frozen=True, slots=True)
class Group:
    """Named layers that run one after another, written as a mapping or a list, which numbers them."""

    layers: tuple[tuple[Scalar, Layer], ...]
    span: Span
    is_numbered: bool = False


@dataclass(frozen=True, slots=True)
class Values:
    """A list of single values: ``[height, width]``, or the sizes of pieces."""

    items: tuple[Scalar | Invalid, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class PerBlockValues:
    """A list with one argument for each of several repeated blocks."""

    items: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Branches:
    """Parallel branches: ``{branches: [...], split: true, combine: concat}``.

    The layers of the branches are named beside this one, not below it.
    """

    branches: tuple[Group, ...]
    split: Scalar | Values | Group | Invalid | None
    cascade: Scalar | Invalid | None
    combine: Join
    resize: Resize | None
    span: Span


@dataclass(frozen=True, slots=True)
class Collect:
    """Layers that run one after another, whose input and outputs are concatenated: ``{collect: {...}}``."""

    layers: Group
    span: Span


@dataclass(frozen=True, slots=True)
class BlockOverride:
    """Arguments for the first or the last of several blocks, which override the others: ``first: {stride: 1}``."""

    arguments: Mapping[str, Argument]
    keys: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``depth`` blocks in a row. A single ``stride`` applies to the first block only.

    ``first`` and ``last`` override arguments of those blocks, and may name another block under ``block``.
    """

    block: Layer | PerBlockValues
    depth: Scalar | Invalid
    numbering: str
    project: Project | None
    arguments: Mapping[str, Argument]
    keys: Mapping[str, Scalar]
    first: BlockOverride
    last: BlockOverride
    span: Span


Layer: TypeAlias = Scalar | Call | Group | Repeat | Branches | Collect | Invalid
Argument: TypeAlias = Layer | Values | PerBlockValues


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block: ``after(combine(branch(x), shortcut(x)))``, where both read ``before(x)`` if there is one.

    Attributes:
        takes: The default of each argument; None if the argument is required.
        sections: The layers of each section, in the order in which they are written, which orders their weights.
        project: When the shortcut layers are used, unless the stage sets that.
        reads: What the shortcut reads. If None, shortcut layers read the output of ``before``, and the identity is x.
    """

    name: str
    takes: Mapping[str, Layer | None]
    sections: Mapping[Role, Group]
    combine: Combine
    project: Project
    reads: Literal["input", "before"] | None
    span: Span


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image is prepared: shorter side to ``resize`` pixels, centre crop to the input, then (x - mean) / std.

    Pixel values range from 0 to 1; ``mean`` and ``std`` have one number per channel.
    """

    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """The spec of a network.

    Attributes:
        input: The shape of the image; None if a problem keeps it from being known.
        takes: The value of each argument; None if it is required and not set.
        takes_keys: The keys under ``takes``, as written.
        layers_keys: The keys under ``layers``, as written.
    """

    name: str
    source: str
    input: tuple[int, int, int] | None
    takes: Mapping[str, Layer | None]
    takes_keys: Mapping[str, Scalar]
    preprocess: Preprocess | None
    options: Mapping[str, Scalar | Invalid]
    defaults: Mapping[str, Mapping[str, Scalar | Invalid]]
    layers: Mapping[str, Layer]
    layers_keys: Mapping[str, Scalar]
    blocks: Mapping[str, Block | Invalid]
    stem: Group | None
    stages: Group | None
    head: Group | None
    span: Span
