"""Terms: what stands in a spec for a layer, with every argument written out. They become blocks, then YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeAlias

from resnet_spec.language.spec import Role
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, Op, op_name, per_axis


@dataclass(frozen=True, slots=True)
class Param:
    """An argument of the block in which it stands, or of the network; ``in`` is one too."""

    name: str


IN = Param("in")


@dataclass(frozen=True, slots=True)
class OpCall:
    """A call of an operation with all of its arguments."""

    op: str
    arguments: tuple[tuple[str, Any], ...]
    has_weights: bool = True

    def argument(self, name: str) -> Any:
        """Return the value of an argument, or None."""
        return dict(self.arguments).get(name)


@dataclass(frozen=True, slots=True)
class BlockCall:
    """A call of a block, whose ``project`` a stage would say. ``others`` call other blocks that are the same."""

    block: str
    arguments: tuple[tuple[str, Any], ...]
    project: str = ""
    others: tuple[BlockCall, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Layers that run one after another, by their names."""

    items: tuple[tuple[str, Term], ...]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Calls of blocks in a row. A name or an argument is one for all blocks, or a ``PerBlock`` of values."""

    block: Any
    depth: Any
    arguments: tuple[tuple[str, Any], ...]
    numbering: str = "{index}"
    project: str = ""


@dataclass(frozen=True, slots=True)
class PerBlock:
    """The values of an argument for each of several blocks."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Branching:
    """Parallel branches."""

    combine: str
    branches: tuple[Sequence, ...]
    split: Any = False
    cascade: bool = False
    resize: str = ""


@dataclass(frozen=True, slots=True)
class Collecting:
    """Layers whose input and outputs are concatenated."""

    items: Sequence


Term: TypeAlias = OpCall | BlockCall | Sequence | Repeats | Branching | Collecting | Param


@dataclass(frozen=True, slots=True)
class Body:
    """The sections of a block; ``combine`` is "none" for a chain."""

    combine: str
    sections: tuple[tuple[Role, Sequence], ...]
    reads: str = ""
    project: str = ""

    def section(self, role: Role) -> Sequence:
        """Return a section, which is empty if the block has none of that name."""
        return dict(self.sections).get(role, Sequence(()))


def op_term(leaf: Leaf, prefers_same: bool = False) -> OpCall:
    """Return the call of an operation. A padding of half of the kernel is called ``half``.

    With ``prefers_same``, it is called ``same`` where that is the same.
    """
    arguments = {item.name: getattr(leaf.op, item.name) for item in fields(leaf.op)}
    if "padding" in arguments and arguments["padding"] == half_padding(leaf.op):
        is_same = prefers_same and per_axis(getattr(leaf.op, "stride", 2)) == (1, 1)
        arguments["padding"] = "same" if is_same else "half"
    return OpCall(op_name(leaf.op), tuple(arguments.items()), bool(leaf.op.weights(leaf.input_shape)))


def half_padding(op: Op) -> int | tuple[int, int] | None:
    """Return half of what a kernel spans, as ``ops.windows`` computes it; None if it has an even size."""
    kernel, dilation = per_axis(getattr(op, "kernel")), per_axis(getattr(op, "dilation", 1))  # noqa: B009
    height, width = (spread * (size - 1) for size, spread in zip(kernel, dilation, strict=True))
    if height % 2 or width % 2:
        return None
    return height // 2 if height == width else (height // 2, width // 2)


def default_arguments(op: str) -> dict[str, Any]:
    """Return the arguments of an operation that have defaults, rounded as the operation rounds them."""
    kind = OPS[op]
    required = {item.name: _example(item.name) for item in fields(kind) if not _has_default(item)}
    made = kind(**required)
    return {item.name: getattr(made, item.name) for item in fields(kind) if _has_default(item)}


def _has_default(item: Any) -> bool:
    return item.default is not MISSING


def _example(name: str) -> Any:
    return 0.5 if name == "rate" else 2


def has_weights(term: Any) -> bool:
    """Return whether a term holds weights, so that its name is the model's."""
    if isinstance(term, OpCall):
        return term.has_weights
    return not isinstance(term, Param | Branching | Collecting)


def subterms(term: Any) -> Iterator[Any]:
    """Yield a term and what is in it."""
    yield term
    match term:
        case Sequence(items):
            for _, inner in items:
                yield from subterms(inner)
        case Branching(branches=branches):
            for branch in branches:
                yield from subterms(branch)
        case Collecting(items):
            yield from subterms(items)
        case Body(sections=sections):
            for _, section in sections:
                yield from subterms(section)
        case OpCall(arguments=arguments) | BlockCall(arguments=arguments) | Repeats(arguments=arguments):
            for _, value in arguments:
                values = value.values if isinstance(value, PerBlock) else (value,)
                for inner in values:
                    if not isinstance(inner, int | float | str | bool | tuple):
                        yield from subterms(inner)


def map_terms(term: Any, change: Callable[[Any], Any]) -> Any:
    """Return a term with every term in it changed, the innermost first."""

    def inside(items: tuple[tuple[Any, Any], ...]) -> tuple[tuple[Any, Any], ...]:
        return tuple((name, map_terms(inner, change)) for name, inner in items)

    match term:
        case Sequence(items):
            term = Sequence(inside(items))
        case Branching(branches=branches, split=split):
            sizes = tuple(change(size) for size in split) if isinstance(split, tuple) else split
            term = replace(term, branches=tuple(map_terms(branch, change) for branch in branches), split=sizes)
        case Collecting(items):
            term = Collecting(map_terms(items, change))
        case Body(sections=sections):
            term = replace(term, sections=inside(sections))
        case OpCall(arguments=arguments) | BlockCall(arguments=arguments):
            term = replace(term, arguments=inside(arguments))
        case Repeats(depth=depth, arguments=arguments):
            term = replace(term, depth=change(depth), arguments=inside(arguments))
        case PerBlock(values):
            term = PerBlock(tuple(map_terms(value, change) for value in values))
    return change(term)


def with_arguments(term: OpCall, **changes: Any) -> OpCall:
    """Return a call with other values for arguments."""
    return replace(term, arguments=tuple((name, changes.get(name, value)) for name, value in term.arguments))
