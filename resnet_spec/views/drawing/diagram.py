"""The contents of a drawing before layout: cells for operations, residual and parallel items, blocks that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

from resnet_spec.language.spec import Join
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.network.structure import Group, Repeats, group_repeats, group_stages, path_range
from resnet_spec.ops import Shape, op_name, per_axis

CellKind: TypeAlias = Literal["conv", "linear", "pool", "norm", "act"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One box: an operation, and the norms and activations that follow it.

    ``notes`` are written below the label, each with the path of the part that it is about.
    """

    leaves: tuple[Leaf, ...]
    kind: CellKind
    label: str
    notes: tuple[tuple[str, str], ...]

    @property
    def input_shape(self) -> Shape:
        return self.leaves[0].input_shape

    @property
    def output_shape(self) -> Shape:
        return self.leaves[-1].output_shape


@dataclass(frozen=True, slots=True)
class ResidualItem:
    """A residual block: branch and shortcut, which start at one point and join at another.

    An empty ``shortcut`` is the identity. With ``skips_before`` the shortcut starts above the layers in ``before``.
    """

    path: str
    before: Column
    branch: Column
    shortcut: Column
    combine: Literal["add", "multiply", "concat"]
    after: Column
    skips_before: bool
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True, slots=True)
class ParallelItem:
    """Branches side by side. Its fields mean the same as those of ``Parallel``."""

    path: str
    branches: tuple[Column, ...]
    combine: Join
    split: bool
    cascade: bool
    collect: bool
    input_shape: Shape
    output_shape: Shape


Item: TypeAlias = Cell | ResidualItem | ParallelItem
Column: TypeAlias = tuple[Item, ...]


MAX_NAME = 20
"""Characters of a block's path that are drawn; a longer one is shortened to its last name."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a stage, or several equal ones in a row, of which only the first is drawn."""

    parts: Repeats
    column: Column

    @property
    def name(self) -> str:
        """The path, with the numbers of the first and last block if there are several: layer3.1-35."""
        return path_range(self.parts[0].path, self.parts[-1].path)

    @property
    def label(self) -> str:
        """The name, without the stage's path if it is long: ...denselayer1-6."""
        return self.name if len(self.name) <= MAX_NAME else f"...{self.name.rpartition('.')[2]}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A stage and its blocks. The stem and the head hold their layers in a single block without a name."""

    group: Group
    blocks: tuple[Block, ...]


def build_diagram(network: Network, *, unfold: bool = False) -> tuple[Frame, ...]:
    """Return what to draw of a network, with repeated blocks folded into one unless ``unfold``.

    >>> from resnet_spec import load
    >>> [block.name for block in build_diagram(load("resnet152"))[3].blocks]
    ['layer3.0', 'layer3.1-35']
    """
    return tuple(Frame(group, tuple(_build_blocks(group, unfold))) for group in group_stages(network))


def _build_blocks(group: Group, unfold: bool) -> Iterator[Block]:
    if not group.path:
        yield Block(group.parts, tuple(build_column(group.parts)))
        return
    for run in [(part,) for part in group.parts] if unfold else group_repeats(group.parts):
        yield Block(run, tuple(build_column(run[:1])))


def build_column(parts: tuple[Part, ...]) -> Iterator[Item]:
    """Yield parts as items from top to bottom.

    Chains are opened, and norms and activations join the cell of the operation before them.
    """
    leaves: list[Leaf] = []
    for part in _open_chains(parts):
        starts_cell = not isinstance(part, Leaf) or classify(part) not in ("norm", "act")
        if leaves and starts_cell:
            yield _build_cell(leaves)
            leaves = []
        if isinstance(part, Leaf):
            leaves.append(part)
        else:
            yield _build_residual(part) if isinstance(part, Residual) else _build_parallel(part)
    if leaves:
        yield _build_cell(leaves)


def classify(leaf: Leaf) -> CellKind:
    """Return the kind of an operation, derived from what it does, so that a new operation needs no entry here."""
    if leaf.op.macs(leaf.input_shape):
        return "conv" if len(leaf.input_shape) == 3 else "linear"
    if leaf.output_shape != leaf.input_shape or hasattr(leaf.op, "kernel"):
        return "pool"
    return "norm" if leaf.op.weights(leaf.input_shape) else "act"


def format_label(leaf: Leaf) -> str:
    """Return an operation as papers write it.

    >>> from resnet_spec import load
    >>> [format_label(leaf) for leaf in load("resnet18").leaves()][:4]
    ['7×7 conv, 64, /2', 'batch norm', 'relu', '3×3 max pool, /2']
    """
    words = [op_name(leaf.op).replace("_", " ")]
    if kernel := getattr(leaf.op, "kernel", 0):
        height, width = per_axis(kernel)
        words[0] = f"{height}×{width} {words[0]}"
    if out := getattr(leaf.op, "out", 0):
        words.append(str(out))
    if (stride := getattr(leaf.op, "stride", 1)) != 1:
        words.append("/" + "×".join(map(str, dict.fromkeys(per_axis(stride)))))
    return ", ".join(words)


def summarize(items: Column) -> list[str]:
    """Return what a block computes in a few lines, like the architecture table in the ResNet paper.

    Norms and activations are left out, unless there is nothing else.
    """
    return list(_summarize(items)) or [cell.label for cell in _cells(items)] or ["identity"]


def _cells(items: Column) -> Iterator[Cell]:
    """Yield the cells of a column, and of what is inside it."""
    for item in items:
        match item:
            case Cell():
                yield item
            case ResidualItem():
                yield from _cells((*item.before, *item.branch, *item.after))
            case ParallelItem():
                yield from _cells(tuple(chain.from_iterable(item.branches)))


def _summarize(items: Column) -> Iterator[str]:
    for item in items:
        match item:
            case Cell(kind="norm" | "act"):
                pass
            case Cell():
                yield item.label
            case ResidualItem(combine="multiply"):
                yield "gate"
            case ResidualItem():
                yield from _summarize((*item.before, *item.branch, *item.after))
            case ParallelItem():
                lines = [tuple(_summarize(branch)) for branch in item.branches if branch]
                all_equal = len(lines) > 1 and len(set(lines)) == 1
                yield from (f"{len(lines)} × {line}" for line in lines[0]) if all_equal else chain.from_iterable(lines)


def _build_cell(leaves: list[Leaf]) -> Cell:
    main, *rest = leaves
    kind = classify(main)
    if kind in ("norm", "act"):
        label, rest = " · ".join(format_label(leaf) for leaf in leaves), []
    else:
        label = format_label(main)
    notes = [*((note, main.path) for note in _label_details(main)), *((format_label(leaf), leaf.path) for leaf in rest)]
    return Cell(tuple(leaves), kind, label, tuple(notes))


def _label_details(leaf: Leaf) -> Iterator[str]:
    """Yield the arguments that a label leaves out but a reader needs: groups and dilation."""
    if leaf.op.macs(leaf.input_shape) and (groups := getattr(leaf.op, "groups", 1)) > 1:
        yield "depthwise" if groups == leaf.input_shape[0] else f"{groups} groups"
    if (dilation := getattr(leaf.op, "dilation", 1)) != 1:
        yield "dilation " + "×".join(map(str, dict.fromkeys(per_axis(dilation))))


def _build_residual(part: Residual) -> ResidualItem:
    before, branch, shortcut, after = (tuple(build_column(row)) for row in part.rows)
    return ResidualItem(
        part.path,
        before,
        branch,
        shortcut,
        part.combine,
        after,
        part.reads == "input" and bool(part.before),
        part.input_shape,
        part.output_shape,
    )


def _build_parallel(part: Parallel) -> ParallelItem:
    branches = tuple(tuple(build_column(branch)) for branch in part.branches)
    return ParallelItem(
        part.path,
        branches,
        part.combine,
        bool(part.split),
        part.cascade,
        part.collect,
        part.input_shape,
        part.output_shape,
    )


def _open_chains(parts: tuple[Part, ...]) -> Iterator[Leaf | Residual | Parallel]:
    for part in parts:
        if isinstance(part, Chain):
            yield from _open_chains(part.parts)
        else:
            yield part
