"""How branches that run side by side meet: the shape that they give together, or why they can't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from resnet_spec.language.spec import Join
from resnet_spec.ops import Shape, ShapeError


def split_shape(input_shape: Shape, count: int) -> Shape:
    """The shape of each of so many equal pieces of the channels. Raises Misfit."""
    if input_shape[0] % count:
        raise ShapeError(f"{input_shape[0]} channels can't be split evenly between {count} branches")
    return (input_shape[0] // count, *input_shape[1:])


def check_cascade(piece: Shape, before: Shape) -> None:
    """Refuse a cascade whose branch gives another shape than the next one reads. Raises Misfit."""
    if piece != before:
        raise ShapeError(f"a branch gives {before}, but the next one reads {piece}, to which a cascade adds it")


def joined_shape(combine: Join, output_shape: Sequence[Shape]) -> Shape:
    """The shape that branches give together. Raises Misfit."""
    first, *rest = output_shape
    match combine:
        case "concat":
            odd = next((shape for shape in rest if shape[1:] != first[1:]), None)
            together = (sum(shape[0] for shape in output_shape), *first[1:])
        case "add" | "mean":
            odd = next((shape for shape in rest if shape != first), None)
            together = first
        case _:
            assert_never(combine)
    if odd is not None:
        verb = {"concat": "be joined", "add": "be added", "mean": "have a mean"}[combine]
        raise ShapeError(f"branches that give {first} and {odd} can't {verb}")
    return together
