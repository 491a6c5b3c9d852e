"""Operations that move numbers about: padding, flattening, parts of the channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.ops.argument_types import AtLeastTwo, NonNegative, PositiveInt
from resnet_spec.ops.shapes import Shape, check_divides, image_shape, no_macs
from resnet_spec.ops.weights import no_weights


@dataclass(frozen=True, slots=True)
class ZeroPad:
    """Zeros around the image.

    Attributes:
        top: Rows added above.
        bottom: Rows added below.
        left: Columns added on the left.
        right: Columns added on the right.
    """

    top: NonNegative = 0
    bottom: NonNegative = 0
    left: NonNegative = 0
    right: NonNegative = 0

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, height, width = image_shape(self, input_shape)
        return channels, height + self.top + self.bottom, width + self.left + self.right


@dataclass(frozen=True, slots=True)
class PadChannels:
    """Channels of zeros before and after the image's own: a shortcut to more channels without weights (option A).

    Attributes:
        before: Channels added before the first.
        after: Channels added after the last.
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
    """The channels in so many equal parts, one after another, added up: parts of c channels become c channels.

    Attributes:
        parts: How many parts the channels are divided into, in order.
    """

    parts: PositiveInt

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        check_divides("parts", self.parts, input_shape[0], "channels", input_shape)
        return (input_shape[0] // self.parts, *input_shape[1:])


@dataclass(frozen=True, slots=True)
class SplitSoftmax:
    """For each channel, the softmax over the parts that it comes in: what split attention weighs its parts by.

    The channels come as (groups, parts, channels of one part and group), and leave as (parts, groups, ...), the order of what
    they weigh (Zhang et al. 2020, ResNeSt).

    Attributes:
        parts: How many parts compete, two at the least: the softmax of one is 1.
        groups: How many groups the channels of each part are divided into.
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
    """Everything in one row, channels first: (channels, height, width) becomes (channels * height * width,)."""

    weights = no_weights
    macs = no_macs

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)
