"""The role of each layer in a residual network, such as the second convolution of a block's branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
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

_MAX_LETTERS = 12
"""The blocks of a stage that are named by letters."""

Section: TypeAlias = Literal["stem", "transition", "branch", "shortcut", "pooled_shortcut", "gate", "head"]


@dataclass(frozen=True, slots=True)
class Role:
    """What a layer is in the network. All numbers count from 0.

    Attributes:
        section: The part of the network, or of a block, that the layer belongs to. A "transition" stands between two
            stages; a "gate" scales channels, as in squeeze-and-excitation; a "pooled_shortcut" has an average pooling.
        kind: "conv", "norm", "linear", or the operation's name in a spec.
        index: The layer's number among those of its kind in its section (of its block).
        convs: How many convolutions there are in the section, or in the branch of the layer's block.
        stage: The number of the stage, or of that behind a transition.
        block: The number of the block in its stage.
        flat: The number of the block in the network.
        blocks: How many blocks there are in the stage.
    """

    section: Section
    kind: str
    index: int
    convs: int
    stage: int = 0
    block: int = 0
    flat: int = 0
    blocks: int = 0

    @property
    def letter(self) -> str:
        """The block as He et al. name it: "a", "b", "c", ... or, in long stages, "a", "b1", "b2", ..."""
        if self.blocks <= _MAX_LETTERS:
            return chr(ord("a") + self.block)
        return f"b{self.block}" if self.block else "a"


def find_roles(network: Network) -> dict[str, Role]:
    """Return the role of each layer with weights by path; {} if the network has no stages.

    >>> from resnet_spec import load
    >>> find_roles(load("resnet18"))["layer2.1.bn1"]
    Role(section='branch', kind='norm', index=0, convs=2, stage=1, block=1, flat=3, blocks=2)
    """
    paths = {stage.path for stage in network.stages if stage.path}
    parts = list(_open_holders(network.parts, paths))
    stages = [index for index, part in enumerate(parts) if part.path in paths]
    if not stages:
        return {}
    roles = dict(_section_roles("stem", _leaves(parts[: stages[0]])))
    roles |= _section_roles("head", _leaves(parts[stages[-1] + 1 :]))
    flat = 0
    for stage, index in enumerate(stages):
        part = parts[index]
        between = list(_leaves(parts[stages[stage - 1] + 1 : index])) if stage else []
        roles |= _section_roles("transition", between, _count_convs(between), stage)
        blocks = part.parts if isinstance(part, Chain) else (part,)
        for block, inner in enumerate(blocks):
            roles |= _block_roles(inner, stage, block, flat, len(blocks))
            flat += 1
    return roles


def _open_holders(parts: Iterable[Part], paths: Set[str]) -> Iterator[Part]:
    """Yield parts; instead of a chain that holds stages beside other layers, yield what it holds."""
    for part in parts:
        if (
            isinstance(part, Chain)
            and part.path not in paths
            and any(path.startswith(f"{part.path}.") for path in paths)
        ):
            yield from _open_holders(part.parts, paths)
        else:
            yield part


def _block_roles(part: Part, *place: int) -> Iterator[tuple[str, Role]]:
    shortcut = list(_leaves(part.shortcut)) if isinstance(part, Residual) else []
    body = (*part.before, *part.branch, *part.after) if isinstance(part, Residual) else (part,)
    branch = list(_leaves(body))
    is_pooled = any(isinstance(leaf.op, AvgPool) for leaf in shortcut)
    numbers = (_count_convs(branch), *place)
    yield from _section_roles("branch", branch, *numbers)
    yield from _section_roles("pooled_shortcut" if is_pooled else "shortcut", shortcut, *numbers)
    for gate in _gates(body):
        yield from _section_roles("gate", _leaves(gate.branch), *numbers)


def _section_roles(section: Section, leaves: Iterable[Leaf], *numbers: int) -> Iterator[tuple[str, Role]]:
    """Yield the roles of one section's layers, by path.

    ``numbers`` are a role's ``convs``, ``stage``, ``block``, ``flat`` and ``blocks``; without them, the section's
    convolutions are counted.
    """
    leaves = list(leaves)
    convs, *place = numbers or (_count_convs(leaves),)
    seen: Counter[str] = Counter()
    for leaf in leaves:
        if leaf.op.weights(leaf.input_shape):
            kind = layer_kind(leaf)
            yield leaf.path, Role(section, kind, seen[kind], convs, *place)
            seen[kind] += 1


def _count_convs(leaves: list[Leaf]) -> int:
    return sum(isinstance(leaf.op, Conv | StandardizedConv) for leaf in leaves)


def layer_kind(leaf: Leaf) -> str:
    """Return the kind of an operation in the tables: every norm is a "norm", every convolution of images a "conv"."""
    match leaf.op:
        case BatchNorm() | GroupNorm() | LayerNorm() | EvoNormS0() | FilterResponseNorm():
            return "norm"
        case StandardizedConv():
            return "conv"
        case _:
            return op_name(leaf.op)


def _leaves(parts: Iterable[Part]) -> Iterator[Leaf]:
    """Yield operations in the order in which they run, without those in the branch of a gate."""
    for part in parts:
        if isinstance(part, Leaf):
            yield part
        rows = part.rows
        if isinstance(part, Residual) and part.combine == "multiply":
            rows = (part.before, part.shortcut, part.after)
        for row in rows:
            yield from _leaves(row)


def _gates(parts: tuple[Part, ...]) -> Iterator[Residual]:
    for part in walk(parts):
        if isinstance(part, Residual) and part.combine == "multiply":
            yield part
