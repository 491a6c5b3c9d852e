"""Rules of shapes that operations share, and the error of one that can't take what it is given."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


def op_name(op: object) -> str:
    """What a spec calls an operation: ``GlobalAvgPool`` is ``global_avg_pool``."""
    kind = op if isinstance(op, type) else type(op)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class ShapeError(ValueError):
    """An operation that can't take what it is given.

    ``argument`` names the culprit, if one argument is to blame, and ``other`` one that it does not go with; ``gives`` is the
    shape to go on with, if there is one. ``small`` says that a larger image might do.
    """

    def __init__(
        self,
        message: str,
        *,
        argument: str = "",
        other: str = "",
        help: str = "",
        output_shape: Shape | None = None,
        small: bool = False,
    ) -> None:
        super().__init__(message)
        self.argument = argument
        self.other = other
        self.help = help
        self.output_shape = output_shape
        self.small = small


def same_shape(op: object, input_shape: Shape) -> Shape:
    return input_shape


def no_macs(op: object, input_shape: Shape) -> int:
    return 0


def image_shape(op: object, input_shape: Shape) -> Shape:
    if len(input_shape) != 3:
        raise ShapeError(f"{op_name(op)} works on (channels, height, width), but is given {input_shape}")
    return input_shape


def check_divides(
    what: str, value: int, channels: int, of: str, output_shape: Shape | None = None, other: str = ""
) -> None:
    if channels % value:
        fits = _divisors(channels)
        raise ShapeError(
            f"{what} is {value}, which does not divide the {channels} {of}",
            argument=what,
            other=other,
            help=f"it can be {', '.join(fits[:-1])} or {fits[-1]}" if fits[1:] else "it can be 1",
            output_shape=output_shape,
        )


@lru_cache(maxsize=64)
def _divisors(channels: int) -> list[str]:
    """Divisors to choose from, found in no time however many channels there are."""
    return [str(number) for number in range(1, min(channels, 2**16) + 1) if channels % number == 0]


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, *, ceil: bool = False) -> int:
    reach = dilation * (kernel - 1) + 1
    free = size + 2 * padding - reach
    if free < 0:
        raise ShapeError(
            f"the window reaches over {reach} pixels, but the map has {size}"
            + (f" and {2 * padding} of padding" if padding else ""),
            argument="kernel",
            output_shape=(1,),
            small=True,
        )
    if not ceil:
        return free // stride + 1
    steps = -(-free // stride) + 1
    # PyTorch's rule: a last window that would start in the padding on the far side is dropped.
    return steps - 1 if (steps - 1) * stride >= size + padding else steps


def windowed_shape(channels: int, input_shape: Shape, *window: int, ceil: bool = False) -> Shape:
    try:
        return (
            channels,
            window_count(input_shape[1], *window, ceil=ceil),
            window_count(input_shape[2], *window, ceil=ceil),
        )
    except ShapeError as error:
        error.output_shape = (channels, 1, 1)
        raise


def check_padding(padding: int, kernel: int) -> None:
    if padding * 2 > kernel:
        raise ShapeError(
            f"padding is {padding}, more than half of the kernel of {kernel}, so a window could lie in it wholly",
            argument="padding",
            help=f"it can be at most {kernel // 2}",
        )
