"""The order in which a module runs the parts that it holds, for backends whose models are nested modules.

A model registers each part under its path. Since names may have dots, the parts that one module runs may be nested
below it: ``stages.0`` in a network, or ``convs.0`` and ``bns.0`` in a block with parallel branches. A step therefore
identifies a module by the names that lead to it from the module that runs it. Steps are plain tuples of strings, which
every framework's compiler accepts as constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from resnet_spec.network.parts import Chain, Parallel, Part, Residual

Step: TypeAlias = "tuple[tuple[str, ...], tuple[Steps, ...]]"
"""A module to run, and the steps of each of its branches if it is parallel.

The module is given by the names that lead to it from its holder: ``("downsample",)`` or ``("stages", "0")``. The
steps of branches start from the same holder.
"""

Steps: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class ResidualSteps:
    """How a residual block runs: ``after(combine(branch(y), shortcut(z)))`` with y = before(x), and z = y or x.

    ``shortcut_reads`` is "before" where z is y, "input" where it is x. Empty steps return their input.
    """

    before: Steps
    branch: Steps
    shortcut: Steps
    after: Steps
    combine: Literal["add", "multiply"]
    shortcut_reads: Literal["input", "before"]


def relative_names(holder: str, part: Part) -> tuple[str, ...]:
    """Return the names that lead from a holder's path to a part.

    >>> from resnet_spec import load
    >>> relative_names("layer2.0", load("resnet18").part("layer2.0.downsample.1"))
    ('downsample', '1')
    """
    return tuple(part.path.removeprefix(f"{holder}." if holder else "").split("."))


def plan_steps(holder: str, row: Iterable[Part]) -> Steps:
    """Return the steps by which a module at the path ``holder`` runs a row of parts."""
    return tuple((relative_names(holder, part), _branch_steps(holder, part)) for part in row)


def _branch_steps(holder: str, part: Part) -> tuple[Steps, ...]:
    return tuple(plan_steps(holder, branch) for branch in part.branches) if isinstance(part, Parallel) else ()


def plan_residual(part: Residual) -> ResidualSteps:
    """Return the steps of a residual block's sections, from the block's own path."""
    before, branch, shortcut, after = (plan_steps(part.path, row) for row in part.rows)
    return ResidualSteps(before, branch, shortcut, after, part.combine, part.reads)


def plan_part(part: Part) -> tuple[Steps, ...]:
    """Return the steps of each branch of a part that runs on its own, from the network's root.

    There are none for a part that holds the parts inside it.
    """
    return _branch_steps("", part)


def held_parts(holder: str, row: Iterable[Part]) -> Iterator[tuple[tuple[str, ...], Part]]:
    """Yield each part that a module at the path ``holder`` registers, with its relative names.

    Parallel branches own no names: their parts are registered beside them, by the same holder.
    """
    for part in row:
        yield relative_names(holder, part), part
        if isinstance(part, Parallel):
            for branch in part.branches:
                yield from held_parts(holder, branch)


def is_plain_row(part: Chain) -> bool:
    """Return whether a chain holds each of its parts directly, as a framework's own sequential container does."""
    return all(
        len(names) == 1 and not isinstance(inner, Parallel) for names, inner in held_parts(part.path, part.parts)
    )
