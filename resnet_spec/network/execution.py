"""The order in which a module runs the parts that it holds, for backends whose models are nested modules.

A model registers each part under its path. Since names may have dots, the parts that one module runs may be nested
below it: ``stages.0`` in a network, or ``convs.0`` and ``bns.0`` in a block with parallel branches. A step therefore
identifies a module by the names that lead to it from the module that runs it. Steps are plain tuples of strings, which
every framework's compiler accepts as constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from resnet_spec.language.spec import Join, Resize
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.ops import Shape

Step: TypeAlias = "tuple[tuple[str, ...], tuple[Steps, ...], str]"
"""A module to run, the steps of each of its branches if it is parallel, and the name of a weight that its holder has.

The module is given by the names that lead to it from its holder: ``("downsample",)`` or ``("stages", "0")``. The
steps of branches start from the same holder. A weight with the name of its layer, as that of a learned ``scale``, is an
attribute of the module that holds the layer, and an argument when the layer is called.
"""

Steps: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """What a module at a path runs: the steps of a row, or those of a residual block.

    Its hash is that of the path alone, because frameworks hash the attributes of each module at every call, and the
    hash of nested tuples is computed anew each time.
    """

    path: str
    steps: Any

    def __hash__(self) -> int:
        return hash(self.path)


@dataclass(frozen=True, slots=True)
class ResidualSteps:
    """How a residual block runs: ``after(combine(branch(y), shortcut(z)))`` with y = before(x), and z = y or x.

    ``shortcut_reads`` is "before" where z is y, "input" where it is x. Empty steps return their input. ``missing_axes``
    is how many trailing axes the output of the branch lacks: two for a gate with one number per channel of a map.
    """

    before: Steps
    branch: Steps
    shortcut: Steps
    after: Steps
    combine: Literal["add", "multiply", "concat"]
    shortcut_reads: Literal["input", "before"]
    missing_axes: int


@dataclass(frozen=True, slots=True)
class ParallelPlan:
    """How parallel branches run; the fields mean the same as those of ``Parallel``.

    Attributes:
        pieces: The number of channels of each branch's piece of the input; empty if each branch reads all of it.
        missing_axes: How many trailing axes the output of each branch lacks beside that of the part.
    """

    combine: Join
    pieces: tuple[int, ...]
    cascade: bool
    collect: bool
    resize: Resize | Literal[""]
    missing_axes: tuple[int, ...]


def relative_names(holder: str, part: Part) -> tuple[str, ...]:
    """Return the names that lead from a holder's path to a part.

    >>> from resnet_spec import load
    >>> relative_names("layer2.0", load("resnet18").part("layer2.0.downsample.1"))
    ('downsample', '1')
    """
    return tuple(part.path.removeprefix(f"{holder}." if holder else "").split("."))


def own_weight(part: Part) -> str:
    """Return the name of a part's weight in its holder if the weight has the part's own name; else "".

    >>> from resnet_spec import loads
    >>> network = loads("{name: n, input: [3, 8, 8], stem: {block.gamma: scale}}")
    >>> own_weight(network.parts[0]), module_names("block", network.parts[0])
    ('gamma', ('apply_gamma',))
    """
    has_one = isinstance(part, Leaf) and any(not weight.name for weight in part.op.weights(part.input_shape))
    return part.path.rpartition(".")[2] if has_one else ""


def module_names(holder: str, part: Part) -> tuple[str, ...]:
    """Return the names that lead from a holder's path to the module of a part.

    They are the part's own, unless a weight has those: then the module is called ``apply_`` and the weight's name.
    """
    *outer, last = relative_names(holder, part)
    return (*outer, f"apply_{last}" if own_weight(part) else last)


def module_path(part: Part) -> str:
    """Return the path of the module of a part."""
    return ".".join(module_names("", part))


def plan_steps(holder: str, row: Iterable[Part]) -> Steps:
    """Return the steps by which a module at the path ``holder`` runs a row of parts."""
    return tuple((module_names(holder, part), _branch_steps(holder, part), own_weight(part)) for part in row)


def _branch_steps(holder: str, part: Part) -> tuple[Steps, ...]:
    return tuple(plan_steps(holder, branch) for branch in part.branches) if isinstance(part, Parallel) else ()


def plan_residual(part: Residual) -> ResidualSteps:
    """Return the steps of a residual block's sections, from the block's own path."""
    before, branch, shortcut, after = (plan_steps(part.path, row) for row in part.rows)
    read = _output_shape(part.before, part.input_shape)
    other = _output_shape(part.shortcut, read if part.reads == "before" else part.input_shape)
    missing = len(other) - len(_output_shape(part.branch, read))
    return ResidualSteps(before, branch, shortcut, after, part.combine, part.reads, missing)


def plan_parallel(part: Parallel) -> ParallelPlan:
    """Return how parallel branches run."""
    ndim = len(part.output_shape)
    missing = tuple(ndim - len(_output_shape(branch, part.input_shape)) for branch in part.branches)
    return ParallelPlan(part.combine, part.pieces, part.cascade, part.collect, part.resize, missing)


def _output_shape(row: Row, input_shape: Shape) -> Shape:
    return row[-1].output_shape if row else input_shape


def outermost_blocks(row: Iterable[Part]) -> Iterator[str]:
    """Yield the paths of the residual blocks that are in no other one.

    >>> from resnet_spec import load
    >>> list(outermost_blocks(load("resnet18").parts))[:2]
    ['layer1.0', 'layer1.1']
    """
    for part in row:
        if isinstance(part, Residual):
            yield part.path
        else:
            for inner in part.rows:
                yield from outermost_blocks(inner)


def held_parts(holder: str, row: Iterable[Part]) -> Iterator[tuple[tuple[str, ...], Part]]:
    """Yield each part that a module at the path ``holder`` registers, with the names that lead to its module.

    Parallel branches own no names: their parts are registered beside them, by the same holder.
    """
    for part in row:
        yield module_names(holder, part), part
        if isinstance(part, Parallel):
            for branch in part.branches:
                yield from held_parts(holder, branch)


def is_plain_row(part: Chain) -> bool:
    """Return whether a chain holds each of its parts directly and in order, as a framework's own container does."""
    return not part.written and all(
        len(names) == 1 and not isinstance(inner, Parallel) and not own_weight(inner)
        for names, inner in held_parts(part.path, part.parts)
    )
