"""A tree of operations for another input: the same operations, every shape worked out again."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import replace

from resnet_spec.network import Leaf, Network, Part, Residual, Sequence, combined
from resnet_spec.ops import Shape


def retraced(network: Network, input: tuple[int, int, int] | None = None) -> Network:
    """The network with every shape worked out from its input, or from another. Raises Misfit where one can't be.

    >>> from resnet_spec import load
    >>> retraced(load("resnet18"), (3, 64, 64)) == load("resnet18", input=(3, 64, 64))
    True
    """
    given = network.input if input is None else input
    return replace(network, input=given, parts=_row(network.parts, given)[0])


def _row(parts: Several[Part], given: Shape) -> tuple[tuple[Part, ...], Shape]:
    done = []
    for part in parts:
        done.append(_part(part, given))
        given = done[-1].gives
    return tuple(done), given


def _part(part: Part, given: Shape) -> Part:
    match part:
        case Leaf():
            return replace(part, given=given, gives=part.op.gives(given))
        case Sequence():
            parts, gives = _row(part.parts, given)
            return replace(part, parts=parts, given=given, gives=gives)
        case Residual():
            before, read = _row(part.before, given)
            branch, shape = _row(part.branch, read)
            shortcut, other = _row(part.shortcut, read) if part.shortcut else ((), given)
            after, gives = _row(part.after, combined(shape, other, part.combine))
            changed = replace(part, before=before, branch=branch, shortcut=shortcut, after=after)
            return replace(changed, given=given, gives=gives)
