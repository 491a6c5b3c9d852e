"""A network that differs to the smallest that still does: parts, arguments and pixels taken away while it goes on differing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import Op, ShapeError

MOST_TRIES = 300


def shrunk(network: Network, differs: Callable[[Network], bool], tries: int = MOST_TRIES) -> Network:
    """The smallest network found for which ``differs`` still holds, after so many tries at the most."""
    while True:
        for candidate in candidates(network):
            if tries == 0:
                return network
            tries -= 1
            if differs(candidate):
                network = candidate
                break
        else:
            return network


def candidates(network: Network) -> Iterator[Network]:
    """Networks a little smaller than one, those that take most away first; each with every shape worked out."""
    for parts in _fewer(network.parts):
        yield from _valid(replace(network, parts=parts))
    for input in _smaller_inputs(network.input):
        yield from _valid(network, input)
    for parts in _plainer(network.parts):
        yield from _valid(replace(network, parts=parts))


def _valid(network: Network, input: tuple[int, int, int] | None = None) -> Iterator[Network]:
    """The network, if its shapes work out and something is left of it."""
    if not network.parts:
        return
    try:
        found = infer_shapes(network, input)
    except ShapeError:
        return
    if len(found.output_shape) == 1 and found.weights():
        yield found


def _smaller_inputs(input: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    channels, height, width = input
    for smaller in ((height + 1) // 2, height - 1):
        if 0 < smaller < height:
            yield channels, smaller, width
    for smaller in ((width + 1) // 2, width - 1):
        if 0 < smaller < width:
            yield channels, height, smaller
    if channels > 1:
        yield 1, height, width


def _fewer(parts: Row) -> Iterator[Row]:
    """Parts with a run of them left out, the longest run first; or with less inside one of them."""
    length = len(parts)
    while length:
        for start in range(0, len(parts), length):
            yield (*parts[:start], *parts[start + length :])
        length //= 2
    for index, part in enumerate(parts):
        for inner in _within(part):
            yield (*parts[:index], *inner, *parts[index + 1 :])


def _within(part: Part) -> Iterator[Row]:
    """Yield what may stand in a part's place: some of its contents, or the part with less inside."""
    if isinstance(part, Residual):
        yield (*part.before, *part.branch, *part.after)
        yield (*part.before, *part.shortcut, *part.after)
        if part.shortcut:
            yield (part.with_rows((part.before, part.branch, (), part.after)),)
    if isinstance(part, Parallel):
        yield from part.branches
    for index, row in enumerate(part.rows):
        for fewer in _fewer(row):
            if isinstance(part, Chain) and not fewer:
                yield ()
            elif fewer or not (isinstance(part, Residual) and row is part.branch):
                yield (_with_row(part, index, fewer),)


def _with_row(part: Part, index: int, row: Row) -> Part:
    return part.with_rows((*part.rows[:index], row, *part.rows[index + 1 :]))


def _plainer(parts: Row) -> Iterator[Row]:
    """Parts with one operation told less, or told smaller numbers."""
    for index, part in enumerate(parts):
        for plain in _plain(part):
            yield (*parts[:index], plain, *parts[index + 1 :])


def _plain(part: Part) -> Iterator[Part]:
    if isinstance(part, Leaf):
        for op in _told_less(part.op):
            yield replace(part, op=op)
    for index, row in enumerate(part.rows):
        for plainer in _plainer(row):
            yield _with_row(part, index, plainer)


def _told_less(op: Op) -> Iterator[Op]:
    for field in fields(op):
        value = getattr(op, field.name)
        if field.default is not MISSING and value != field.default:
            yield _with(op, field.name, field.default)
        if type(value) is int and value > 1:
            for smaller in dict.fromkeys((1, value // 2, value - 1)):
                yield _with(op, field.name, smaller)


def _with(op: Op, name: str, value: Any) -> Op:
    changed: dict[str, Any] = {name: value}
    return replace(op, **changed)
