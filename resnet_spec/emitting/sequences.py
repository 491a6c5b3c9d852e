"""Write calls as documents, with equal layers in a row as a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from resnet_spec.emitting.expressions import (
    Argument,
    Atom,
    Call,
    Constant,
    Raw,
    Value,
    atoms,
    skeleton,
    with_atoms,
    write_atom,
)
from resnet_spec.emitting.formatting import Bracket, Document, Row

MIN_REPEATS = 2
"""From this number of equal layers on, they are written as a loop."""
MIN_VARIED = 3
"""From this number of layers on that differ in one argument, they are written as a loop."""

Naming = Callable[[Constant], Constant]


def write_expression(call: Call, naming: Naming) -> Document:
    """Return a call as a document, without the arguments that have their default."""
    items: list[Document] = []
    shown = [one for one in call.arguments if one.is_positional or one.value != one.default]
    for is_made, group in groupby(shown, lambda one: one.is_positional and isinstance(one.value, Call)):
        arguments = list(group)
        if is_made:
            items += _write_row([one.value for one in arguments if isinstance(one.value, Call)], naming)
        else:
            items += [_write_argument(one, naming) for one in arguments]
    if not call.function and len(items) == 1:
        return Row(("(", items[0], ",)"))
    if call.function == "[":
        return Bracket("[", tuple(items), "]", is_literal=True)
    return Row((call.function, Bracket("(", tuple(items), ")", is_literal=not call.function)))


def _write_argument(argument: Argument, naming: Naming) -> Document:
    value = _write_value(argument.value, naming)
    return value if argument.is_positional else Row((f"{argument.name}=", value))


def _write_value(value: Value, naming: Naming) -> Document:
    if isinstance(value, Call):
        return write_expression(value, naming)
    return write_atom(naming(value) if isinstance(value, Constant) else value)


def _write_row(calls: Sequence[Call], naming: Naming) -> list[Document]:
    """Return layers in a row, those that differ in nothing or in one number as loops."""
    items: list[Document] = []
    start = 0
    while start < len(calls):
        end = start + 1
        while end < len(calls) and calls[end] == calls[start]:
            end += 1
        if end - start >= MIN_REPEATS and calls[start].arguments:
            items.append(_loop(write_expression(calls[start], naming), f"for _ in range({end - start})"))
            start = end
            continue
        end = start + 1
        while end < len(calls) and _difference(calls[start], calls[start + 1 : end + 1]) is not None:
            end += 1
        place = _difference(calls[start], calls[start + 1 : end])
        if end - start >= MIN_VARIED and place is not None:
            items.append(_write_varied(calls[start:end], place, naming))
            start = end
            continue
        items.append(write_expression(calls[start], naming))
        start += 1
    return items


def _difference(first: Call, others: Sequence[Call]) -> int | None:
    """Return the index of the one atom in which calls differ; None if they differ in another way, or in nothing."""
    own = _values(first)
    places: set[int] = set()
    for other in others:
        if skeleton(other) != skeleton(first):
            return None
        places |= {index for index, (a, b) in enumerate(zip(own, _values(other), strict=True)) if a != b}
    return places.pop() if len(places) == 1 else None


def _values(call: Call) -> list[Value]:
    return [argument.value for argument in atoms(call)]


def _write_varied(calls: Sequence[Call], place: int, naming: Naming) -> Document:
    values = [_values(call)[place] for call in calls]
    argument = list(atoms(calls[0]))[place]
    name = "index" if argument.name in ("", "self", "x") else argument.name
    numbers = [value for value in values if type(value) is int]
    step = numbers[1] - numbers[0] if len(numbers) == len(values) else 0
    if step > 0 and numbers == list(range(numbers[0], numbers[0] + step * len(numbers), step)):
        source: Document = f"range({numbers[0]}, {numbers[-1] + 1}, {step})"
    else:
        texts = [write_atom(value) for value in values if not isinstance(value, Call)]
        source = Bracket("(", tuple(texts), ")", is_literal=True)
    changed: list[Atom] = [value for value in _values(calls[0]) if not isinstance(value, Call)]
    changed[place] = Raw(name)
    return _loop(write_expression(with_atoms(calls[0], iter(changed)), naming), Row((f"for {name} in ", source)))


def _loop(item: Document, clause: Document) -> Document:
    return Row(("*", Bracket("(", (item, clause), ")", "")))
