"""Shape rules that several operations share, and the error for an input that an operation cannot take."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


def op_name(op: object) -> str:
    """Return the name of an operation in specs: ``GlobalAvgPool`` is ``global_avg_pool``."""
    kind = op if isinstance(op, type) else type(op)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class ShapeError(ValueError):
    """An operation that cannot take its input.

    Attributes:
        argument: Name of the argument that does not fit the input, or "".
        related: Name of another argument that contributes to the problem, or "".
        help: What to do about it, or "".
        output_shape: Shape to assume for the output, so that the operations after it can be checked as well, or None.
        input_too_small: Whether a larger input image may solve the problem.
        of_part: Whether the message ends in a noun that "of" and the path of the part can follow.
    """

    def __init__(
        self,
        message: str,
        *,
        argument: str = "",
        related: str = "",
        help: str = "",
        output_shape: Shape | None = None,
        input_too_small: bool = False,
        of_part: bool = False,
    ) -> None:
        super().__init__(message)
        self.argument = argument
        self.related = related
        self.help = help
        self.output_shape = output_shape
        self.input_too_small = input_too_small
        self.of_part = of_part

    def describe_in(self, path: str) -> str:
        """Return the message with the path of the part in which the problem is."""
        return f"{self} of {path}" if self.of_part else f"{self}, in {path}"


def same_shape(op: object, input_shape: Shape) -> Shape:
    """Return the input's shape: the output shape of operations that keep it."""
    return input_shape


def no_macs(op: object, input_shape: Shape) -> int:
    """Return 0: the multiply-accumulates of operations that are not counted."""
    return 0


def image_shape(op: object, input_shape: Shape) -> Shape:
    """Return the input's shape. Raises ShapeError unless it is (channels, height, width)."""
    if len(input_shape) != 3:
        raise ShapeError(f"{op_name(op)} needs an input of shape (channels, height, width), but gets {input_shape}")
    return input_shape


def check_divides(
    argument: str, value: int, channels: int, description: str, output_shape: Shape | None = None, related: str = ""
) -> None:
    """Raise ShapeError if the value of an argument does not divide a number of channels."""
    if channels % value:
        divisors = _divisors(channels)
        raise ShapeError(
            f"{argument} is {value}, which does not divide the {channels} {description}",
            argument=argument,
            related=related,
            help=f"it can be {', '.join(divisors[:-1])} or {divisors[-1]}" if divisors[1:] else "it can be 1",
            output_shape=output_shape,
            of_part=True,
        )


@lru_cache(maxsize=64)
def _divisors(channels: int) -> list[str]:
    # A spec may ask for 2^53 channels, so the search is bounded.
    return [str(number) for number in range(1, min(channels, 2**16) + 1) if channels % number == 0]
