"""Find the arguments of a class from all its uses: what differs between them, with one argument for equal values."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from resnet_spec.emitting.expressions import REQUIRED, Argument, Atom, Constant, Raw, Required

MEANINGS = ("stride", "kernel", "padding", "dilation", "rate", "factor", "eps", "slope", "size", "depth")
"""Words in the names of arguments that are no number of channels: equal values of two of them are a coincidence."""


class Hole:
    """The value of a layer that a use of the class lacks: any other value may stand there."""


HOLE = Hole()


@dataclass(frozen=True, slots=True)
class Slot:
    """One argument of one layer in a class, with its values in all uses of the class.

    Attributes:
        owner: The name of the layer.
        is_always_argument: Whether it becomes an argument of the class even where all values are equal.
    """

    owner: str
    argument: Argument
    values: tuple[Atom | Hole, ...]
    is_always_argument: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of an emitted class, with its value in each use; ``is_keyword`` if it is passed by its name."""

    name: str
    values: tuple[Atom | Hole, ...]
    default: Atom | Required
    is_keyword: bool = False

    @property
    def annotation(self) -> str:
        """The type of its values."""
        kinds = {_type_name(value) for value in self.values if not isinstance(value, Hole)}
        if "float" in kinds:
            kinds.discard("int")
        return " | ".join(sorted(kinds, key=lambda kind: (kind == "None", kind)))

    def argument(self, use: int) -> Argument:
        """Return the argument that a use of the class passes."""
        value = self.values[use]
        if isinstance(value, Hole):
            value = next(known for known in self.values if not isinstance(known, Hole))
            value = value if isinstance(self.default, Required) else self.default
        if isinstance(self.default, Required):
            return Argument(self.name, value, is_positional=not self.is_keyword)
        return Argument(self.name, value, self.default)


@dataclass(frozen=True, slots=True)
class Binding:
    """The arguments of a class, and for each slot the atom that stands in it."""

    parameters: tuple[Parameter, ...]
    atoms: tuple[Atom, ...]

    def find(self, values: Sequence[Atom]) -> str:
        """Return the argument or the literal that has these values in all uses; "" if there is none."""
        if len(set(values)) == 1:
            return str(values[0])
        return next((parameter.name for parameter in self.parameters if _agree(parameter.values, values)), "")

    def condition(self, flags: Sequence[bool]) -> str:
        """Return an expression that is true in the uses where a flag is set; "" if there is none."""
        values = {parameter.name: parameter.values for parameter in self.parameters}
        uses = range(len(flags))
        for text, holds in _conditions(values):
            if all(holds(use) == flags[use] for use in uses):
                return text
            if all(holds(use) != flags[use] for use in uses):
                return text.replace(" != ", " == ").replace(" or ", " and ")
        return ""


def bind(slots: Sequence[Slot], hints: Mapping[str, Sequence[Atom]]) -> Binding:
    """Return the arguments of a class whose layers have these slots.

    ``hints`` are names with the values that they have in all uses, in the order in which they are preferred.
    """
    found: list[Parameter] = []
    chosen: list[Atom] = []
    for slot in slots:
        known = [value for value in slot.values if not isinstance(value, Hole)]
        place = next((index for index, old in enumerate(found) if _is_same(old, slot)), None)
        is_literal = not slot.is_always_argument and all(value == known[0] for value in known)
        if is_literal and (place is None or len(known) == len(slot.values)):
            chosen.append(known[0])
            continue
        half = None if place is not None else _half(slot, found)
        if half is not None:
            chosen.append(Raw(half))
        elif place is None:
            found.append(_new_parameter(slot, hints, {parameter.name for parameter in found}))
            chosen.append(Raw(found[-1].name))
        else:
            found[place] = replace(found[place], values=_merge(found[place].values, slot.values))
            chosen.append(Raw(found[place].name))
    return Binding(tuple(sorted(found, key=lambda one: not isinstance(one.default, Required))), tuple(chosen))


def _agree(left: Sequence[Atom | Hole], right: Sequence[Atom | Hole]) -> bool:
    pairs = list(zip(left, right, strict=True))
    shared = [(a, b) for a, b in pairs if not isinstance(a, Hole) and not isinstance(b, Hole)]
    return bool(shared) and all(a == b and _type_name(a) == _type_name(b) for a, b in shared)


def _is_same(parameter: Parameter, slot: Slot) -> bool:
    """Return whether an argument of a class can stand in a slot: it has its values, and a meaning of the same kind."""
    return _agree(parameter.values, slot.values) and _meaning(parameter.name) == _meaning(slot.argument.name)


def _meaning(name: str) -> str:
    return next((word for word in MEANINGS if word in name), "")


def _merge(left: Sequence[Atom | Hole], right: Sequence[Atom | Hole]) -> tuple[Atom | Hole, ...]:
    return tuple(b if isinstance(a, Hole) else a for a, b in zip(left, right, strict=True))


def _half(slot: Slot, found: Sequence[Parameter]) -> str | None:
    """Return the padding that is half of a kernel whose size is an argument; None if it is not."""
    if slot.argument.name != "padding":
        return None
    for parameter in found:
        halves = [value // 2 if isinstance(value, int) else value for value in parameter.values]
        are_numbers = all(isinstance(value, int | Hole) for value in halves)
        if are_numbers and _meaning(parameter.name) == "kernel" and _agree(halves, slot.values):
            return f"{parameter.name} // 2"
    return None


def _new_parameter(slot: Slot, hints: Mapping[str, Sequence[Atom]], taken: set[str]) -> Parameter:
    argument = slot.argument
    hinted = [name for name, values in hints.items() if _agree(values, slot.values)]
    usual = {"in": "in_channels", "out": "channels"}.get(argument.kind, argument.name)
    candidates = [*hinted, usual, f"{slot.owner}_{usual}"]
    candidates += [f"{slot.owner}_{usual}{number}" for number in range(2, 1000)]
    name = next(name for name in map(_identifier, candidates) if name not in taken)
    default = argument.default
    has_default = not isinstance(default, Required) and default in slot.values
    return Parameter(name, slot.values, default if has_default else REQUIRED, slot.is_always_argument)


def _identifier(name: str) -> str:
    plain = "".join(character if character.isalnum() else "_" for character in name)
    plain = plain if plain[:1].isalpha() else f"n{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) or plain in ("self", "x", "rngs") else plain


def _type_name(value: Atom | Hole) -> str:
    match value:
        case bool():
            return "bool"
        case float() | Constant():
            return "float"
        case tuple():
            return f"tuple[{', '.join(['int'] * len(value))}]"
        case None | Raw("None"):
            return "None"
        case Raw():  # a function or an initialiser of JAX
            return "Callable[..., Array]"
        case _:
            return type(value).__name__


def _conditions(values: Mapping[str, Sequence[Atom | Hole]]) -> Iterator[tuple[str, Callable[[int], bool]]]:
    """Yield conditions by which blocks usually tell whether they change the shape."""
    strides = [name for name in values if name.endswith("stride")]
    outs = [name for name in values if name != "in_channels" and name.endswith("channels")]
    outs += [name for name in values if name not in (*strides, *outs, "in_channels")]
    pairs = [("in_channels", out) for out in outs] if "in_channels" in values else []

    def differs(pair: tuple[str, str]) -> Callable[[int], bool]:
        return lambda use: values[pair[0]][use] != values[pair[1]][use]

    for stride in strides:
        for pair in pairs:
            is_other = differs(pair)
            yield (
                f"{stride} != 1 or {pair[0]} != {pair[1]}",
                lambda use, s=stride, f=is_other: values[s][use] != 1 or f(use),  # type: ignore[misc]
            )
    for pair in pairs:
        yield f"{pair[0]} != {pair[1]}", differs(pair)
    for stride in strides:
        yield f"{stride} != 1", lambda use, s=stride: values[s][use] != 1  # type: ignore[misc]
