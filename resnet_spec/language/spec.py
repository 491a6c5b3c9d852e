"""A spec as it is written: what ``specs/*.yaml`` says, checked for form, its names not yet looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from resnet_spec.diagnostics.problems import Span

Role: TypeAlias = Literal["before", "branch", "shortcut", "after"]
Combine: TypeAlias = Literal["add", "multiply", "none"]
Join: TypeAlias = Literal["concat", "add", "mean"]
Project: TypeAlias = Literal["changed", "first", "always", "never"]


@dataclass(frozen=True, slots=True)
class Word:
    """A single value: its text, whether it is unquoted, and where it stands. Its type is for whoever needs it to say."""

    text: str
    plain: bool
    at: Span


@dataclass(frozen=True, slots=True)
class Invalid:
    """Something that can't be read, as was said where it stands. It may stand for anything, and nothing more is said of it."""

    at: Span


@dataclass(frozen=True, slots=True)
class Call:
    """An operation or a block by name, with arguments: ``{op: conv, out: 64, kernel: 3}``."""

    what: Literal["op", "block"]
    target: Word
    arguments: Mapping[str, Argument]
    names: Mapping[str, Word]
    at: Span


@dataclass(frozen=True, slots=True)
class Group:
    """Named layers in a row, as a mapping or a list writes them."""

    layers: tuple[tuple[Word, Layer], ...]
    at: Span


@dataclass(frozen=True, slots=True)
class PerBlockValues:
    """One argument for each block of a stage."""

    items: tuple[Layer, ...]
    at: Span


@dataclass(frozen=True, slots=True)
class Branches:
    """Branches side by side: ``{branches: [...], split: true, combine: concat}``. Their layers are named beside the fork."""

    branches: tuple[Group, ...]
    split: Word | Invalid | None
    cascade: Word | Invalid | None
    combine: Join
    at: Span


Layer: TypeAlias = Word | Call | Group | Branches | Invalid
Argument: TypeAlias = Word | Call | Group | Branches | PerBlockValues | Invalid


@dataclass(frozen=True, slots=True)
class Block:
    """``after(combine(branch(x), shortcut(x)))``, where both read ``before(x)`` if there is one.

    An identity shortcut is x all the same, unless ``reads`` says otherwise of both kinds of shortcut. ``sections`` are in the
    order that they are written, which is the order of their weights. A taken name whose value is None is required.
    ``project`` says when the shortcut is used, where a stage does not.
    """

    name: str
    takes: Mapping[str, Layer | None]
    sections: Mapping[Role, Group]
    combine: Combine
    project: Project
    reads: Literal["input", "before"] | None
    at: Span


@dataclass(frozen=True, slots=True)
class BlockOverride:
    """What one block of a stage is told in place of what the stage says: ``first: {stride: 1}``."""

    arguments: Mapping[str, Argument]
    names: Mapping[str, Word]


@dataclass(frozen=True, slots=True)
class Stage:
    """``depth`` blocks in a row. The first takes the stride; the rest take every argument but that.

    ``first`` and ``last`` are what those blocks are told besides, their ``block`` among it.
    """

    name: Word
    block: Layer | PerBlockValues
    depth: Word | Invalid
    numbering: str
    project: Project | None
    arguments: Mapping[str, Argument]
    names: Mapping[str, Word]
    first: BlockOverride
    last: BlockOverride
    at: Span


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What an image goes through: shorter side to ``resize`` pixels, centre crop to the input, then (x - mean) / std.

    Pixels are from 0 to 1; ``mean`` and ``std`` have a number for each channel.
    """

    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """A network's spec. ``taken`` and ``configured`` hold the names under ``takes`` and ``layers`` where they are written.

    ``input`` is None where a problem keeps what the first layer is given from being known.
    """

    name: str
    source: str
    input: tuple[int, int, int] | None
    takes: Mapping[str, Layer | None]
    taken: Mapping[str, Word]
    preprocess: Preprocess | None
    options: Mapping[str, Word | Invalid]
    defaults: Mapping[str, Mapping[str, Word | Invalid]]
    layers: Mapping[str, Layer]
    configured: Mapping[str, Word]
    blocks: Mapping[str, Block | Invalid]
    stem: Group | None
    stages: tuple[Stage, ...]
    head: Group | None
    at: Span
