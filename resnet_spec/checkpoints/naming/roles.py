"""What part each layer plays in a residual network: the second convolution of a block's branch, the norm of its shortcut, ..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Part, Residual
from resnet_spec.network.traversal import walk
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    EvoNormS0,
    FilterResponseNorm,
    GroupNorm,
    LayerNorm,
    StandardizedConv,
    op_name,
)

Section: TypeAlias = Literal["stem", "branch", "shortcut", "pooled_shortcut", "gate", "head"]


@dataclass(frozen=True, slots=True)
class Role:
    """A layer's part in the network.

    Attributes:
        section: Where it stands. A ``gate`` weighs channels; a ``pooled_shortcut`` pools before it projects.
        kind: "conv", "norm", "linear", or what a spec calls the operation.
        index: Which of its kind it is in its section (of its block), from 0.
        convs: How many convolutions the stem has, or the branch of its block.
        stage: The number of its stage, from 0.
        block: The number of its block in the stage, from 0.
        flat: The number of its block in the network, from 0.
    """

    section: Section
    kind: str
    index: int
    convs: int
    stage: int = 0
    block: int = 0
    flat: int = 0


def roles(network: Network) -> dict[str, Role]:
    """The part that each layer with weights plays, by path. A layer that stands between stages has none.

    >>> from resnet_spec import load
    >>> roles(load("resnet18"))["layer2.1.bn1"]
    Role(section='branch', kind='norm', index=0, convs=2, stage=1, block=1, flat=3)
    """
    stages = [index for index, part in enumerate(network.parts) if part.path in network.stages]
    if not stages:
        return {}
    found = dict(_section("stem", _leaves(network.parts[: stages[0]])))
    found |= _section("head", _leaves(network.parts[stages[-1] + 1 :]))
    flat = 0
    for stage, index in enumerate(stages):
        part = network.parts[index]
        for block, inner in enumerate(part.parts if isinstance(part, Chain) else (part,)):
            found |= _block(inner, stage, block, flat)
            flat += 1
    return found


def _block(part: Part, stage: int, block: int, flat: int) -> Iterator[tuple[str, Role]]:
    shortcut = list(_leaves(part.shortcut)) if isinstance(part, Residual) else []
    body = (*part.before, *part.branch, *part.after) if isinstance(part, Residual) else (part,)
    branch = list(_leaves(body))
    convs = sum(isinstance(leaf.op, Conv | StandardizedConv) for leaf in branch)
    pooled = any(isinstance(leaf.op, AvgPool) for leaf in shortcut)
    place = (convs, stage, block, flat)
    yield from _section("branch", branch, *place)
    yield from _section("pooled_shortcut" if pooled else "shortcut", shortcut, *place)
    for gate in _gates(body):
        yield from _section("gate", _leaves(gate.branch), *place)


def _section(section: Section, leaves: Iterator[Leaf] | list[Leaf], *place: int) -> Iterator[tuple[str, Role]]:
    held = list(leaves)
    convs, *where = place or (sum(isinstance(leaf.op, Conv | StandardizedConv) for leaf in held),)
    seen: Counter[str] = Counter()
    for leaf in held:
        if leaf.op.weights(leaf.input_shape):
            kind = kind_of(leaf)
            yield leaf.path, Role(section, kind, seen[kind], convs, *where)
            seen[kind] += 1


def kind_of(leaf: Leaf) -> str:
    """What tables call an operation: all norms are one kind, and all convolutions of images."""
    match leaf.op:
        case BatchNorm() | GroupNorm() | LayerNorm() | EvoNormS0() | FilterResponseNorm():
            return "norm"
        case StandardizedConv():
            return "conv"
        case _:
            return op_name(leaf.op)


def _leaves(parts: tuple[Part, ...]) -> Iterator[Leaf]:
    """Operations in the order that they run, without those that work out what a gate multiplies by."""
    for part in parts:
        if isinstance(part, Leaf):
            yield part
        is_gate = isinstance(part, Residual) and part.combine == "multiply"
        for index, row in enumerate(part.rows):
            if not (is_gate and index == 1):  # its branch
                yield from _leaves(row)


def _gates(parts: tuple[Part, ...]) -> Iterator[Residual]:
    for part in walk(parts):
        if isinstance(part, Residual) and part.combine == "multiply":
            yield part
