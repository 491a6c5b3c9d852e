"""Shrink a network that backends disagree about, by removing parts, pixels and arguments while they still disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import Op, ShapeError

MAX_TRIES = 300


def shrink_network(network: Network, differs: Callable[[Network], bool], tries: int = MAX_TRIES) -> Network:
    """Return the smallest network found for which ``differs`` is true. It is called at most ``tries`` times."""
    while True:
        for candidate in smaller_networks(network):
            if tries == 0:
                return network
            tries -= 1
            if differs(candidate):
                network = candidate
                break
        else:
            return network


def smaller_networks(network: Network) -> Iterator[Network]:
    """Yield valid networks that are a little smaller, those with the largest changes first."""
    for parts in _remove_parts(network.parts):
        yield from _infer_shapes(replace(network, parts=parts))
    for input in _smaller_inputs(network.input):
        yield from _infer_shapes(network, input)
    for parts in _simplify_operations(network.parts):
        yield from _infer_shapes(replace(network, parts=parts))


def _infer_shapes(network: Network, input: tuple[int, int, int] | None = None) -> Iterator[Network]:
    """Yield the network with its shapes, if it is valid, has weights, and returns one vector per image."""
    if not network.parts:
        return
    try:
        inferred = infer_shapes(network, input)
    except ShapeError:
        return
    if len(inferred.output_shape) == 1 and inferred.weights():
        yield inferred


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


def _remove_parts(row: Row) -> Iterator[Row]:
    """Yield a row without some of its consecutive parts, the most first; then with one of its parts simplified."""
    length = len(row)
    while length:
        for start in range(0, len(row), length):
            yield (*row[:start], *row[start + length :])
        length //= 2
    for index, part in enumerate(row):
        for replacement in _simplify_part(part):
            yield (*row[:index], *replacement, *row[index + 1 :])


def _simplify_part(part: Part) -> Iterator[Row]:
    """Yield what may stand in a part's place: some of its contents, or the part with less inside."""
    if isinstance(part, Residual):
        yield (*part.before, *part.branch, *part.after)
        yield (*part.before, *part.shortcut, *part.after)
        if part.shortcut:
            yield (part.with_rows((part.before, part.branch, (), part.after)),)
    if isinstance(part, Parallel):
        yield from part.branches
    for index, row in enumerate(part.rows):
        for shorter in _remove_parts(row):
            if isinstance(part, Chain) and not shorter:
                yield ()
            elif shorter or not (isinstance(part, Residual) and row is part.branch):  # a block needs a branch
                yield (_replace_row(part, index, shorter),)


def _replace_row(part: Part, index: int, row: Row) -> Part:
    return part.with_rows((*part.rows[:index], row, *part.rows[index + 1 :]))


def _simplify_operations(row: Row) -> Iterator[Row]:
    """Yield a row with one argument of one operation at its default, or smaller."""
    for index, part in enumerate(row):
        for simpler in _simplify_operations_in(part):
            yield (*row[:index], simpler, *row[index + 1 :])


def _simplify_operations_in(part: Part) -> Iterator[Part]:
    if isinstance(part, Leaf):
        for op in _simplify_arguments(part.op):
            yield replace(part, op=op)
    for index, row in enumerate(part.rows):
        for simpler in _simplify_operations(row):
            yield _replace_row(part, index, simpler)


def _simplify_arguments(op: Op) -> Iterator[Op]:
    for field in fields(op):
        value = getattr(op, field.name)
        if field.default is not MISSING and value != field.default:
            yield _replace_argument(op, field.name, field.default)
        if type(value) is int and value > 1:
            for smaller in dict.fromkeys((1, value // 2, value - 1)):
                yield _replace_argument(op, field.name, smaller)


def _replace_argument(op: Op, name: str, value: Any) -> Op:
    changes: dict[str, Any] = {name: value}
    return replace(op, **changes)
