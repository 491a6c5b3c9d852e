"""Operations that rearrange values: padding, flattening, and splitting the channels into parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from resnet_spec.ops.argument_types import AtLeastTwo, Margin, NonNegative, PositiveInt
from resnet_spec.ops.shapes import Shape, check_divides, image_shape, no_macs
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class ZeroPad:
    """Zero padding in height and width.

    Attributes:
        top: Rows added above.
        bottom: Rows added below.
        left: Columns added on the left.
        right: Columns added on the right.
    """

    top: Margin = 0
    bottom: Margin = 0
    left: Margin = 0
    right: Margin = 0

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        return channels, height + self.top + self.bottom, width + self.left + self.right


@dataclass(frozen=True, slots=True)
class PadChannels:
    """Zero padding in the channels, for a shortcut to more channels without weights (He et al. 2015, option A).

    Attributes:
        before: Channels added before the first one.
        after: Channels added after the last one.
    """

    before: NonNegative = 0
    after: NonNegative = 0

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        return channels + self.before + self.after, height, width


@dataclass(frozen=True, slots=True)
class SplitSum:
    """Sum of equal parts of the channels: parts * c channels become c channels.

    Attributes:
        parts: Number of parts, each of consecutive channels.
    """

    parts: PositiveInt

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        check_divides("parts", self.parts, input_shape[0], "channels", input_shape)
        return (input_shape[0] // self.parts, *input_shape[1:])


@dataclass(frozen=True, slots=True)
class SplitSoftmax:
    """Softmax over equal parts of the channels, the weights of split attention (Zhang et al. 2020, ResNeSt).

    The input channels are ordered by (group, part, channel), and the output channels by (part, group, channel), which
    is the order of the channels that they multiply.

    Attributes:
        parts: Number of parts that the softmax is taken over.
        groups: Number of groups that the channels of each part are divided into.
    """

    parts: AtLeastTwo
    groups: PositiveInt = 1

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        check_divides("parts", self.parts, input_shape[0], "channels", input_shape)
        check_divides("groups", self.groups, input_shape[0] // self.parts, "channels of a part", input_shape)
        return input_shape


@dataclass(frozen=True, slots=True)
class Flatten:
    """One-dimensional view, channels first: (channels, height, width) becomes (channels * height * width,)."""

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)


@dataclass(frozen=True, slots=True)
class SpaceToDepth:
    """Square tiles of pixels become channels: (c, h * size, w * size) becomes (size * size * c, h, w).

    Attributes:
        size: Height and width of a tile, in pixels.
        order: Order of the output channels, slowest first, by the row in the tile, the column in the tile and the input
            channel: channel_row_column is PyTorch's pixel_unshuffle.
    """

    size: AtLeastTwo = 2
    order: Literal["channel_row_column", "row_column_channel", "column_row_channel"] = "channel_row_column"

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        output_shape = channels * self.size**2, max(1, height // self.size), max(1, width // self.size)
        check_divides("size", self.size, height, "rows", output_shape)
        check_divides("size", self.size, width, "columns", output_shape)
        return output_shape


@dataclass(frozen=True, slots=True)
class ChannelShuffle:
    """Channels of several groups take turns: channel (group, i) moves to (i, group) (Zhang et al. 2018, ShuffleNet).

    Attributes:
        groups: Number of groups of consecutive channels.
    """

    groups: AtLeastTwo = 2

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape)
        check_divides("groups", self.groups, input_shape[0], "channels", input_shape)
        return input_shape


@dataclass(frozen=True, slots=True)
class Upsample:
    """A larger map by interpolation between pixels.

    Attributes:
        factor: Factor by which height and width grow.
        mode: nearest repeats pixels. bilinear interpolates between the centres of pixels, and repeats those at the edge
            (align_corners=False in PyTorch).
    """

    factor: AtLeastTwo = 2
    mode: Literal["nearest", "bilinear"] = "nearest"

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        return channels, height * self.factor, width * self.factor
