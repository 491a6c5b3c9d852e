"""Windows that move over a map: their size, steps and padding on each axis, and how many of them fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from resnet_spec.ops.shapes import Shape, ShapeError

Pair: TypeAlias = tuple[int, int]
"""A value for the height and one for the width."""

Margins: TypeAlias = tuple[Pair, Pair]
"""Rows added above and below a map, and columns added on its left and right."""


class Windowed(Protocol):
    """An operation with windows. An argument is one number for both axes, or (height, width)."""

    @property
    def kernel(self) -> int | Pair: ...
    @property
    def stride(self) -> int | Pair: ...
    @property
    def padding(self) -> int | Pair | Literal["same", "half"]: ...


def per_axis(value: int | Pair) -> Pair:
    """Return the value of an argument for height and for width.

    >>> per_axis(3), per_axis((1, 7))
    ((3, 3), (1, 7))
    """
    return value if isinstance(value, tuple) else (value, value)


def simplify(value: int | Pair) -> int | Pair:
    """Return one number where both axes have the same, so that equal arguments are equal values."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value


def normalize_window(op: Windowed) -> None:
    """Write the arguments of an operation's window in one form: numbers wherever the padding has a fixed size.

    ``half`` is half of a kernel's extent, rounded down. ``same`` remains only where it depends on the size of the map.
    """
    dilation = per_axis(getattr(op, "dilation", 1))
    free = [spread * (size - 1) for spread, size in zip(dilation, per_axis(op.kernel), strict=True)]
    is_fixed = per_axis(op.stride) == (1, 1) and not any(extent % 2 for extent in free)
    padding = op.padding
    if padding == "half" or (padding == "same" and is_fixed):
        padding = (free[0] // 2, free[1] // 2)
    arguments = {name: getattr(op, name) for name in ("kernel", "stride", "dilation") if hasattr(op, name)}
    if not isinstance(padding, str):
        arguments["padding"] = padding
    for name, value in arguments.items():
        object.__setattr__(op, name, simplify(value))


@dataclass(frozen=True, slots=True)
class Window:
    """A window of kernel elements that moves over a map.

    Attributes:
        kernel: Elements of the kernel in height and width.
        stride: Distance from one window to the next, in pixels.
        padding: Rows and columns added on each side; None for the padding ``same``, which gives ceil(size / stride)
            windows and adds the odd row or column at the bottom and on the right.
        dilation: Distance from one element of the kernel to the next, in pixels.
        ceil: Whether to keep a last window that reaches past the edge, unless it starts in the padding.
    """

    kernel: Pair
    stride: Pair
    padding: Pair | None
    dilation: Pair = (1, 1)
    ceil: bool = False

    @property
    def extent(self) -> Pair:
        """The rows and columns that a window spans."""
        height, width = (spread * (size - 1) + 1 for spread, size in zip(self.dilation, self.kernel, strict=True))
        return height, width

    def counts(self, height: int, width: int) -> Pair:
        """Return how many windows fit in a map of this size. Raises ShapeError if not even one fits."""
        return self._count(0, height), self._count(1, width)

    def margins(self, height: int, width: int) -> Margins:
        """Return the padding for a map of this size, with what the last windows need beyond it if ``ceil`` is set."""
        return self._margins(0, height), self._margins(1, width)

    def output_shape(self, channels: int, input_shape: Shape) -> Shape:
        """Return the shape of the output of an operation with this window. Raises ShapeError if no window fits."""
        _, height, width = input_shape
        try:
            return channels, *self.counts(height, width)
        except ShapeError as error:
            error.output_shape = (channels, 1, 1)
            raise

    def _count(self, axis: int, size: int) -> int:
        stride, extent = self.stride[axis], self.extent[axis]
        if self.padding is None:
            return -(-size // stride)
        padding = self.padding[axis]
        free = size + 2 * padding - extent
        if free < 0:
            raise ShapeError(
                f"the window spans {extent} pixels, but the map has {size}"
                + (f" and {2 * padding} of padding" if padding else ""),
                argument="kernel",
                output_shape=(1,),
                input_too_small=True,
            )
        if not self.ceil:
            return free // stride + 1
        count = -(-free // stride) + 1
        # As in PyTorch, a last window that would start in the padding after the map is dropped.
        return count - 1 if (count - 1) * stride >= size + padding else count

    def _margins(self, axis: int, size: int) -> Pair:
        reach = (self._count(axis, size) - 1) * self.stride[axis] + self.extent[axis]
        if self.padding is None:
            total = max(0, reach - size)
            return total // 2, total - total // 2
        before = self.padding[axis]
        return before, max(0, reach - before - size) if self.ceil else before


def map_stride(op: object) -> int:
    """Return the factor by which an operation with windows makes a map smaller: the larger one of both axes."""
    return max(per_axis(getattr(op, "stride", 1)))


def fixed_padding(op: Windowed) -> int | Pair | None:
    """Return the padding of an operation as one number, or as (height, width); None if it is ``same``."""
    padding = op.padding
    assert padding != "half", "normalize_window replaces it"
    return None if padding == "same" else padding


def window_of(op: Windowed) -> Window:
    """Return the window of an operation."""
    padding = fixed_padding(op)
    return Window(
        per_axis(op.kernel),
        per_axis(op.stride),
        None if padding is None else per_axis(padding),
        per_axis(getattr(op, "dilation", 1)),
        getattr(op, "ceil", False),
    )


def check_padding(op: Windowed) -> None:
    """Raise ShapeError if a window of a pool could lie entirely in the padding."""
    if isinstance(op.padding, str):
        return
    for padding, kernel in zip(per_axis(op.padding), per_axis(op.kernel), strict=True):
        if padding * 2 > kernel:
            raise ShapeError(
                f"padding is {padding}, more than half of the kernel of {kernel}, so a window could hold only padding",
                argument="padding",
                help=f"it can be at most {kernel // 2}",
            )
